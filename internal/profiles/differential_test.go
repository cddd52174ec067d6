//go:build unix

package profiles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"gopkg.in/ini.v1"
)

// These tables list, with the reason, each case of the corpus that another reader reads differently from Broker.
var (
	botocoreDiffers = map[string]string{
		"bom":                "treats the byte order mark as text before the first section and refuses the file",
		"inline-comments":    "has no inline comments: they are part of the value",
		"duplicate-sections": "refuses the file",
		"duplicate-keys":     "refuses the file",
		"garbage":            "refuses the file",
	}
	goDiffers = map[string]string{
		"bom":             "loses the first section",
		"indent-promoted": "reads an indented line under a value as a new key, not as a continuation",
		"odd-names":       "starts a comment at # even inside brackets",
		"quoted-names":    "keeps the quotes in names",
		"wrapped-quotes":  "strips the quotes around a value",
		"garbage":         "skips a broken header and gives its keys to the section above; ignores a header that has text after it",
		"continued-blank": "drops blank lines inside a value",
		"default-twice":   "prefers [profile default], wherever it is in the file",
		"indented-header": "accepts a header at any indentation",
		"not-profiles":    "ignores a section whose first word only begins with \"profile\"",
		"merged":          "ignores a quoted section of the credentials file",
	}
)

// comparedKeys are the keys whose values every reader exposes under the same name.
var comparedKeys = []string{
	keyRegion,
	keyRoleARN,
	keySourceProfile,
	keyExternalID,
	keyMFASerial,
	keyDuration,
	keySessionName,
	keyCABundle,
	keyCredentialProcess,
}

type profileValues map[string]map[string]string

func corpus(t *testing.T) []string {
	files, err := filepath.Glob("testdata/corpus/*.config")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus", err)
	}
	return files
}

// ours reads one case of the corpus as the Store does.
func ours(t *testing.T, configPath string) profileValues {
	var states [3]state
	paths := []string{configPath, credentialsOf(configPath), ""}
	for i, path := range paths {
		src, _, err := readFile(path)
		if err != nil {
			t.Fatal(err)
		}
		states[i].table, err = newTable(path, src, fileKind(i), &provenance{place: InDefault})
		if err != nil {
			t.Fatal(err)
		}
	}
	set := newSet(Files{}, states)
	got := profileValues{}
	for _, name := range set.names {
		p, _ := set.lookup(name)
		got[name] = map[string]string{}
		for _, key := range comparedKeys {
			if v := p.aws.text(key); v != "" {
				got[name][key] = v
			}
		}
	}
	return got
}

func credentialsOf(configPath string) string {
	path := strings.TrimSuffix(configPath, ".config") + ".credentials"
	if _, err := os.Stat(path); err != nil {
		return os.DevNull
	}
	return path
}

func caseName(configPath string) string {
	return strings.TrimSuffix(filepath.Base(configPath), ".config")
}

// compare fails the test if two readings differ without a listed reason, or agree although a reason is listed.
func compare(t *testing.T, got, other profileValues, reason string) {
	t.Helper()
	same := maps.EqualFunc(got, other, func(a, b map[string]string) bool { return maps.Equal(a, b) })
	switch {
	case !same && reason == "":
		t.Errorf("Broker reads\n%v\nthe other reader reads\n%v", got, other)
	case same && reason != "":
		t.Errorf("the readings agree, but the table lists a difference: %s", reason)
	}
}

const botocoreScript = `
import json, os, sys
import botocore.session, botocore.exceptions
out = {}
for config, credentials in json.load(sys.stdin):
    os.environ["AWS_CONFIG_FILE"] = config
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = credentials
    os.environ.pop("AWS_PROFILE", None)
    try:
        out[config] = botocore.session.Session().full_config["profiles"]
    except botocore.exceptions.BotoCoreError as e:
        out[config] = None
json.dump(out, sys.stdout)
`

func TestSameAsBotocore(t *testing.T) {
	python := python(t)
	files := corpus(t)
	var pairs [][2]string
	for _, f := range files {
		config, _ := filepath.Abs(f)
		credentials := credentialsOf(config)
		pairs = append(pairs, [2]string{config, credentials})
	}
	in, _ := json.Marshal(pairs)
	cmd := exec.Command(python, "-c", botocoreScript)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		t.Run(caseName(f), func(t *testing.T) {
			other := profileValues{}
			for name, values := range all[pairs[i][0]] {
				other[name] = map[string]string{}
				for key, v := range values {
					if s, ok := v.(string); ok && s != "" && slices.Contains(comparedKeys, key) {
						other[name][key] = s
					}
				}
			}
			compare(t, ours(t, f), other, botocoreDiffers[caseName(f)])
		})
	}
}

// TestTranslatedForBotocore checks that botocore reads from a config translated by package foreign what the other
// tool meant.
func TestTranslatedForBotocore(t *testing.T) {
	python := python(t)
	var pairs [][2]string
	paths := map[string]string{}
	for _, tool := range []string{"aws-vault", "granted", "awsume", "aws-runas", "aws-mfa"} {
		path, _ := filepath.Abs("../foreign/testdata/" + tool + ".after")
		paths[tool] = path
		pairs = append(pairs, [2]string{path, os.DevNull})
	}
	in, _ := json.Marshal(pairs)
	cmd := exec.Command(python, "-c", botocoreScript)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		tool, profile string
		values        map[string]string // "" means that the key must be absent
	}{
		{"aws-vault", "prod", map[string]string{"role_arn": "arn:aws:iam::444455556666:role/admin", "source_profile": "work", "role_session_name": "paul", "region": "eu-west-1",
			"mfa_serial": "arn:aws:iam::111122223333:mfa/paul", "include_profile": ""}},
		{"aws-vault", "dev", map[string]string{"source_profile": "work", "role_session_name": "paul", "region": "eu-central-1", "duration_seconds": "900", "parent_profile": ""}},
		{"aws-vault", "prod-process", map[string]string{"role_arn": "arn:aws:iam::444455556666:role/admin", "source_profile": "work", "output": "text", "credential_process": ""}},
		{"aws-vault", "home", map[string]string{"source_profile": "home", "region": "us-west-1"}},
		{"aws-vault", "work", map[string]string{"credential_process": "/usr/local/bin/credproc work"}},
		{"aws-vault", "sso", map[string]string{"sso_start_url": "https://example.awsapps.com/start", "sso_region": "eu-west-1", "sso_role_name": "Admin"}},
		{"granted", "iam2", map[string]string{"credential_process": "/usr/local/bin/credproc iam"}},
		{"awsume", "admin", map[string]string{"duration_seconds": "3600", "region": "eu-west-1", "role_duration": ""}},
		{"aws-runas", "one", map[string]string{"duration_seconds": "7200", "region": "us-east-1", "mfa_serial": "arn:aws:iam::111122223333:mfa/paul"}},
		{"aws-runas", "two", map[string]string{"duration_seconds": "1800", "region": "eu-west-1", "credentials_duration": ""}},
		{"aws-runas", "far", map[string]string{"source_profile": "far-jump", "jump_role_arn": "", "mfa_serial": "", "role_arn": "arn:aws:iam::222233334444:role/far"}},
		{"aws-runas", "far-jump", map[string]string{"source_profile": "user", "mfa_serial": "arn:aws:iam::111122223333:mfa/paul", "role_arn": "arn:aws:iam::444455556666:role/jump"}},
		{"aws-mfa", "deploy", map[string]string{"source_profile": "deploy", "role_arn": "arn:aws:iam::444455556666:role/deploy", "mfa_serial": "arn:aws:iam::111122223333:mfa/paul"}},
	} {
		got, ok := all[paths[want.tool]][want.profile]
		if !ok {
			t.Errorf("%s: botocore finds no profile %s", want.tool, want.profile)
		}
		for key, value := range want.values {
			if s, _ := got[key].(string); s != value {
				t.Errorf("%s: %s of %s is %q, want %q", want.tool, key, want.profile, s, value)
			}
		}
	}
}

// python returns a python3 that has botocore: the one on the PATH, or Debian's.
func python(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(program, "-c", "import botocore").Run() == nil {
			return program
		}
	}
	missing(t, "python3 with botocore")
	return ""
}

// missing skips a test that needs a tool. In CI, where every test must run, it fails the test.
func missing(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI needs %s", tool)
	}
	t.Skipf("NOT TESTED: %s is not installed on this machine", tool)
}

func TestSameAsGoSDK(t *testing.T) {
	for _, f := range corpus(t) {
		t.Run(caseName(f), func(t *testing.T) {
			got, other := ours(t, f), profileValues{}
			for name := range got {
				sdk, err := config.LoadSharedConfigProfile(context.Background(), name, func(o *config.LoadSharedConfigOptions) {
					o.ConfigFiles = []string{f}
					o.CredentialsFiles = []string{credentialsOf(f)}
					o.Logger = logging.NewStandardLogger(io.Discard)
				})
				var none config.SharedConfigProfileNotExistError
				if errors.As(err, &none) {
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				values := map[string]string{
					keyRegion: sdk.Region, keyRoleARN: sdk.RoleARN, keySourceProfile: sdk.SourceProfileName,
					keyExternalID: sdk.ExternalID,
					keyMFASerial:  sdk.MFASerial, keySessionName: sdk.RoleSessionName, keyCABundle: sdk.CustomCABundle,
					keyCredentialProcess: sdk.CredentialProcess,
				}
				if sdk.RoleDurationSeconds != nil {
					values[keyDuration] = strconv.Itoa(int(sdk.RoleDurationSeconds.Seconds()))
				}
				maps.DeleteFunc(values, func(_, v string) bool { return v == "" })
				other[name] = values
			}
			compare(t, got, other, goDiffers[caseName(f)])
		})
	}
}

// TestSameAsINI compares with gopkg.in/ini.v1 on the syntax that both support: no nesting, no quotes, no
// continuation lines.
func TestSameAsINI(t *testing.T) {
	for _, name := range []string{"plain", "crlf", "bom", "no-final-newline", "comments", "trailing-space", "unicode"} {
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile("testdata/corpus/" + name + ".config")
			if err != nil {
				t.Fatal(err)
			}
			d, bad := scan(src, false)
			if bad != nil {
				t.Fatal(bad.text)
			}
			file, err := ini.LoadSources(ini.LoadOptions{SpaceBeforeInlineComment: true}, src)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range d.sections {
				header := strings.TrimPrefix(s.kind+" "+s.name, "profile default")
				if header == "" {
					header = "default"
				}
				for _, e := range s.entries {
					if got := file.Section(header).Key(string(e.key)).String(); got != string(e.value) {
						t.Errorf("[%s] %s: Broker reads %q, ini.v1 reads %q", header, e.key, e.value, got)
					}
				}
			}
		})
	}
}
