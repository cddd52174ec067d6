package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/wire"
)

// hostile returns values with every byte that may occur, alone and in places where quoting often fails.
func hostile() []string {
	all := make([]byte, 0, 255)
	for b := 1; b < 256; b++ {
		if b != '\n' && b != '\r' {
			all = append(all, byte(b))
		}
	}
	values := []string{string(all), "'", "''", "'''", `\`, `\\`, `\'`, `'\''`, `a'`, `'a`, `a\`, "$(touch hacked)", "`touch hacked`", "${HOME}", "$HOME",
		"!!", "a b", " a ", "*", "~", "-n", "--", "=x", "#x", "a;b", "a|b&c", "\"", "\t", "\x1b[2J", "ü€😀", "\u2018x\u2019", "%PATH%", "(x)", "{a,b}", "<x>", "\xff\xfe"}
	for _, b := range all {
		values = append(values, "x"+string([]byte{b})+"y")
	}
	return values
}

// TestQuotingInRealShells checks that real shells read the quoted values byte for byte.
func TestQuotingInRealShells(t *testing.T) {
	values := hostile()
	for _, tt := range []struct{ program, format string }{
		{"sh", "env"}, {"bash", "env"}, {"zsh", "env"}, {"fish", "fish"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			if _, err := exec.LookPath(tt.program); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("CI needs %s", tt.program)
				}
				t.Skipf("NOT TESTED: there is no %s on this machine", tt.program)
			}
			var script strings.Builder
			for _, v := range values {
				script.WriteString(shells[tt.format].set(variable{"AWS_SESSION_TOKEN", v}))
				script.WriteString("printenv AWS_SESSION_TOKEN\n")
			}
			script.WriteString(shells[tt.format].unset([]string{"AWS_SESSION_TOKEN", "NEVER_SET"}))
			script.WriteString("printenv AWS_SESSION_TOKEN\n")
			// Run it through eval, as people do.
			text, how := script.String(), `eval "$(cat)"`
			if tt.format == "fish" {
				how = "source"
			}
			cmd := exec.Command(tt.program, "-c", how)
			cmd.Dir = t.TempDir()
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "LC_ALL=C.UTF-8"}
			cmd.Stdin = strings.NewReader(text)
			cmd.Stderr = os.Stderr
			out, _ := cmd.Output() // the last printenv fails, as it should
			got := bytes.Split(out, []byte("\n"))
			if len(got) != len(values)+1 || len(got[len(values)]) != 0 {
				t.Fatalf("got %d values of %d", len(got)-1, len(values))
			}
			for i, v := range values {
				if string(got[i]) != v {
					t.Errorf("%q became %q", v, got[i])
				}
			}
			if left, _ := os.ReadDir(cmd.Dir); len(left) > 0 && left[0].Name() == "hacked" {
				t.Error("a value was run")
			}
		})
	}
}

// TestQuotePowerShell checks the rule of the language specification, because there is no PowerShell to run.
func TestQuotePowerShell(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "''",
		"a b":                "'a b'",
		"$x `n \" \\":        "'$x `n \" \\'",
		"it's":               "'it''s'",
		"''":                 "''''''",
		"\u2018x\u2019":      "'\u2018\u2018x\u2019\u2019'",
		"\u201a\u201b\u201c": "'\u201a\u201a\u201b\u201b\u201c'",
		"\xff":               "'\xff'",
	} {
		if got := quotePowerShell(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestExportText(t *testing.T) {
	cred := wire.Credential{Profile: "it's a profile", AccessKeyID: "ASIAEXAMPLEEXAMPLE12", SecretAccessKey: secret.New("abc/+="),
		SessionToken: secret.New("IQoJ+/=="), Expiration: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Region: "eu-west-1", Account: "444455556666"}
	for format, want := range map[string]string{
		"json":       `{"Version":1,"AccessKeyId":"ASIAEXAMPLEEXAMPLE12","SecretAccessKey":"abc/+=","SessionToken":"IQoJ+/==","Expiration":"2030-01-02T03:04:05Z","AccountId":"444455556666"}` + "\n",
		"ini":        "[it's a profile]\naws_access_key_id = ASIAEXAMPLEEXAMPLE12\naws_secret_access_key = abc/+=\naws_session_token = IQoJ+/==\nregion = eu-west-1\n",
		"env":        `export BROKER_PROFILE='it'\''s a profile'` + "\n",
		"fish":       `set -gx BROKER_PROFILE 'it\'s a profile'` + "\n",
		"powershell": `$env:BROKER_PROFILE = 'it''s a profile'` + "\n",
	} {
		got, err := exportText(format, cred)
		if err != nil || !strings.Contains(string(got), want) || format == "json" && !json.Valid(got) {
			t.Errorf("%s: %v\n%s", format, err, got)
		}
	}
	if got, err := exportText("dotenv", cred); !fault.Is(err, fault.Failed) || got != nil {
		t.Errorf("a quote in a .env file: %s, %v", got, err)
	}
	cred.Profile = "a profile"
	got, err := exportText("dotenv", cred)
	if want := "BROKER_PROFILE='a profile'\nBROKER_EXPIRATION=2030-01-02T03:04:05Z\nAWS_ACCESS_KEY_ID=ASIAEXAMPLEEXAMPLE12\nAWS_SECRET_ACCESS_KEY=abc/+=\n"; err != nil || !strings.HasPrefix(string(got), want) {
		t.Errorf("%v\n%s", err, got)
	}
	// The region of a profile replaces the region of the shell. Without one, the region of the shell stays.
	got, _ = exportText("env", cred)
	if unset, _, _ := strings.Cut(string(got), "\n"); strings.Contains(unset, "REGION") ||
		strings.Contains(unset, " AWS_ACCESS_KEY_ID ") ||
		!strings.Contains(unset, " AWS_PROFILE ") {
		t.Errorf("%s", unset)
	}
	for _, bad := range []string{"a\nb", "a\x00b", "a\r"} {
		cred.SessionToken = secret.New(bad)
		for _, format := range []string{"env", "fish", "powershell", "dotenv", "ini"} {
			if got, err := exportText(format, cred); err == nil || got != nil || strings.Contains(err.Error(), bad) {
				t.Errorf("%s %q: %s, %v", format, bad, got, err)
			}
		}
	}
}
