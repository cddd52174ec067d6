package audit

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestRedact: each row is a command line with a secret, and how the log shows it. AWS's documentation uses these keys.
func TestRedact(t *testing.T) {
	const (
		key   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE1"
		token = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDxyz" + "AbCdEf0123456789AbCdEf0123456789AbCdEf0123456789"
		sha   = "0123456789abcdef0123456789abcdef01234567"
	)
	for _, tt := range []struct{ args, want []string }{
		{nil, []string{}},
		{[]string{"aws", "s3", "ls"}, []string{"aws", "s3", "ls"}},
		{[]string{"x", "--password", "hunter2", "y"}, []string{"x", "--password", "***", "y"}},
		{[]string{"x", "--password=hunter2", "y"}, []string{"x", "--password=***", "y"}},
		{[]string{"x", "--db-password=a b"}, []string{"x", "--db-password=***"}},
		{[]string{"x", "--PASSWORD", "hunter2"}, []string{"x", "--PASSWORD", "***"}},
		{[]string{"x", "-p", "8080"}, []string{"x", "-p", "8080"}},
		{[]string{"x", "--password"}, []string{"x", "--password"}},
		{[]string{"broker", "login", "--code", "123456"}, []string{"broker", "login", "--code", "***"}},
		{[]string{"aws", "--token-code", "123456"}, []string{"aws", "--token-code", "***"}},
		{[]string{"x", "--mfa-code=123456"}, []string{"x", "--mfa-code=***"}},
		{[]string{"git", "diff", "--exit-code", "main"}, []string{"git", "diff", "--exit-code", "main"}},
		{[]string{"x", "--secret-string", "s"}, []string{"x", "--secret-string", "***"}},
		{[]string{"x", "--secret-id", "prod/db"}, []string{"x", "--secret-id", "prod/db"}},
		{[]string{"x", "--no-password", "run"}, []string{"x", "--no-password", "run"}},
		{[]string{"x", "--password-stdin", "run"}, []string{"x", "--password-stdin", "run"}},
		{[]string{"x", "--token-file", "prod"}, []string{"x", "--token-file", "prod"}},
		{[]string{"x", "--api-key", "k"}, []string{"x", "--api-key", "***"}},
		{[]string{"x", "-secretKey=k"}, []string{"x", "-secretKey=***"}},
		{[]string{"env", "AWS_SECRET_ACCESS_KEY=abc", "aws"}, []string{"env", "AWS_SECRET_ACCESS_KEY=***", "aws"}},
		{[]string{"env", "MYSQL_PWD=abc", "PWD=/home"}, []string{"env", "MYSQL_PWD=***", "PWD=/home"}},
		{[]string{"env", "AWS_PROFILE=prod"}, []string{"env", "AWS_PROFILE=prod"}},
		{[]string{"helm", "--set=db.password=x,db.user=y"}, []string{"helm", "--set=db.password=***,db.user=y"}},
		{[]string{"tf", "-var", "db_password=x"}, []string{"tf", "-var", "db_password=***"}},
		{[]string{"sh", "-c", "export API_TOKEN='a b'; mysql --quick --password x -e 1"},
			[]string{"sh", "-c", "export API_TOKEN=***; mysql --quick --password *** -e 1"}},
		{[]string{"sh", "-c", "TOKEN=x terraform destroy"}, []string{"sh", "-c", "TOKEN=*** terraform destroy"}},
		{[]string{"env", "TOKEN=x y"}, []string{"env", "TOKEN=***"}},
		{[]string{"curl", "-d", `{"user":"a","password":"x y"}`}, []string{"curl", "-d", `{"user":"a","password":***}`}},
		{[]string{"curl", "-H", "Authorization: Bearer abc"}, []string{"curl", "-H", "Authorization: ***"}},
		{[]string{"curl", "-H", "X: bearer abc"}, []string{"curl", "-H", "X: bearer ***"}},
		{[]string{"curl", "https://h/?a=b&token=x&c=d"}, []string{"curl", "https://h/?a=b&token=***&c=d"}},
		{[]string{"git", "https://me:pa:ss@host/x"}, []string{"git", "https://me:***@host/x"}},
		{[]string{"git", "https://host:8080/x"}, []string{"git", "https://host:8080/x"}},
		{[]string{"broker", "exec", "dev", "--", "curl", "-u", "me:x", "h"},
			[]string{"broker", "exec", "dev", "--", "curl", "-u", "***", "h"}},
		{[]string{"sudo", "/usr/bin/mysql", "-px"}, []string{"sudo", "/usr/bin/mysql", "-p***"}},
		{[]string{"aws", "ssm", "put-parameter", "--value=x"}, []string{"aws", "ssm", "put-parameter", "--value=***"}},
		{[]string{"curl", "--user-agent=x"}, []string{"curl", "--user-agent=x"}},
		{[]string{"sh", "-c", `curl -d "{\"password\": \"x y\"}" h`}, []string{"sh", "-c", `curl -d "{\"password\": ***}" h`}},
		{[]string{"x", `{"a":"{\"password\":\"x y\",\"b\":1}"}`}, []string{"x", `{"a":"{\"password\":***,\"b\":1}"}`}},
		{[]string{"x", "AKIAIOSFODNN7EXAMPLE"}, []string{"x", "…MPLE"}},
		{[]string{"x", "id=AKIAIOSFODNN7EXAMPLE,b"}, []string{"x", "id=…MPLE,b"}},
		{[]string{"x", "ASIAIOSFODNN7EXAMPLE"}, []string{"x", "ASIAIOSFODNN7EXAMPLE"}},
		{[]string{"x", key}, []string{"x", "***"}},
		{[]string{"x", "a," + key + ",b"}, []string{"x", "a,***,b"}},
		{[]string{"x", token}, []string{"x", "***"}},
		{[]string{"x", strings.Repeat("x ", 500) + key}, []string{"x", strings.Repeat("x ", 500) + "…"}}, // cut within the key
		{[]string{"git", "show", sha}, []string{"git", "show", sha}},
		{[]string{"x", "/usr/" + strings.Repeat("Lib64/Modules/", 12)}, []string{"x", "/usr/" + strings.Repeat("Lib64/Modules/", 12)}},
	} {
		before := slices.Clone(tt.args)
		if got := Redact(tt.args); !slices.Equal(got, tt.want) {
			t.Errorf("%q:\n got %q\nwant %q", tt.args, got, tt.want)
		}
		if !slices.Equal(before, tt.args) {
			t.Errorf("the arguments were changed: %q", tt.args)
		}
	}
}

// TestRedactsFormsThatPeopleUse: secrets in the forms in which people write them are not in the log.
func TestRedactsFormsThatPeopleUse(t *testing.T) {
	const key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE1"
	for _, args := range [][]string{
		{"sh", "-c", `curl -H "Authorization: Bearer SECRET" https://x`},
		{"sh", "-c", `curl -H 'Authorization: token SECRET' https://x`},
		{"curl", "-HAuthorization: token SECRET"},
		{"curl", "-u", "me:SECRET"}, {"/usr/bin/curl", "--user", "me:SECRET"}, {"curl", "-ume:SECRET"},
		{"env", "DB_PASS=SECRET"}, {"x", "--pass", "SECRET"}, {"x", "--pass=SECRET"},
		{"ansible", "-e", "ansible_become_pass=SECRET"}, {"x", `{"vault_pass":"SECRET"}`},
		{"oathtool", "--totp", "-b", "SECRET"},
		{"git", "clone", "https://SECRET@example.com/x"}, {"git", "clone", "https://me:pa@SECRET@example.com/x"},
		{"x", `{"password":"a\"SECRET"}`},
		{"sshpass", "-p", "SECRET"}, {"sshpass", "-pSECRET"}, {"mysql", "-uroot", "-pSECRET"},
		{"openssl", "rsa", "-passin", "pass:SECRET"},
		{"aws", "ssm", "put-parameter", "--name", "/db/password", "--value", "SECRET"},
		{"x", "https://b.s3.amazonaws.com/k?X-Amz-Signature=SECRET"},
		{"x", "--sak=" + key}, {"env", "SAK=" + key},
	} {
		if out := strings.Join(Redact(args), " "); strings.Contains(out, "SECRET") || strings.Contains(out, key) {
			t.Errorf("%q leaks: %s", args, out)
		}
	}
	for _, args := range [][]string{{"x", "--compass", "north"}, {"docker", "run", "-it", "x"}, {"aws", "s3", "ls"}, {"x", "--bypass"}} {
		if out := Redact(args); !slices.Equal(out, args) {
			t.Errorf("%q became %q", args, out)
		}
	}
}

// TestArgumentsAreCut: whatever a process is called with, a line has at most 64 arguments of 256 bytes, and about
// 4 KiB of them in all, without anything that a terminal obeys.
func TestArgumentsAreCut(t *testing.T) {
	for name, list := range map[string][]string{
		"many":    slices.Repeat([]string{"x"}, 1000),
		"long":    {"x", strings.Repeat("y", 1<<20)},
		"all":     slices.Repeat([]string{strings.Repeat("é", 1000)}, 1000),
		"hostile": {"a\x1b[2J\u202e\xff\n\x00", strings.Repeat("\x1b", 1000), strings.Repeat("\xff", 1000)},
	} {
		left, total := mostOfLine, 0
		got := arguments(list, &left)
		for _, arg := range got {
			total += len(arg)
			if len(arg) > mostArgument+len("…") || !utf8.ValidString(arg) || strings.ContainsAny(arg, "\x1b\n\x00\u202e") {
				t.Errorf("%s: %q", name, arg)
			}
		}
		if len(got) > mostArguments+1 || total > mostOfLine+mostArgument+2*len("…") {
			t.Errorf("%s: %d arguments of %d bytes", name, len(got), total)
		}
		if last := got[len(got)-1]; !strings.HasSuffix(last, "…") {
			t.Errorf("%s: it does not say that it is cut: %q", name, last)
		}
	}
	left := mostOfLine
	if got := arguments([]string{"aws", "s3"}, &left); !slices.Equal(got, []string{"aws", "s3"}) {
		t.Errorf("short: %q", got)
	}
}
