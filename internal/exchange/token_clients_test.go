//go:build clients

package exchange

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/profiles"
	"broker/internal/secret"
)

// TestClientsTokens: tokens for EKS and RDS are, byte for byte, those that the AWS CLI makes of the same keys at the
// same time, in every partition.
func TestClientsTokens(t *testing.T) {
	session := Keys{AccessKeyID: "ASIAQXZ7EXAMPLEWNYVB", Secret: secret.New(longSecret), Token: secret.New(sessionText)}
	endpoint := func(region string) profiles.Endpoint { return profiles.Endpoint{Region: region} }
	for _, cli := range commandLines(t) {
		for _, tt := range []struct {
			name     string
			keys     Keys
			endpoint profiles.Endpoint
			cluster  string
			recent   bool // the AWS CLI of Debian 12 does not know it yet
		}{
			{"a session", session, endpoint("eu-west-1"), "main", false},
			{"a long-lived key", userKeys(), endpoint("us-east-1"), "Main_2-x", false},
			{"China", session, endpoint("cn-north-1"), "main", false},
			{"GovCloud", session, endpoint("us-gov-west-1"), "main", false},
			{"Europe", session, endpoint("eusc-de-east-1"), "main", true},
			{"an isolated partition", session, endpoint("us-iso-east-1"), "main", false},
			{"FIPS", session, profiles.Endpoint{Region: "us-east-2", FIPS: true}, "main", false},
			{"legacy", session, profiles.Endpoint{Region: "eu-west-1", Legacy: true}, "main", false},
			{"a simulator", session, profiles.Endpoint{Region: "eu-west-1", URL: "http://127.0.0.1:4599"}, "main", true},
			{"special characters", session, endpoint("ap-southeast-2"), "a.b/c:d+e=f@g~h*i%20j&k?l#m'\"<>", false},
			{"the id of an outpost", session, endpoint("eu-west-1"), "0b5c2f4e-6f0a-4a39-9f8e-0d7e6c1f2a3b", false},
		} {
			if tt.recent && cli.old {
				continue
			}
			t.Run(cli.path+" EKS "+tt.name, func(t *testing.T) {
				t.Parallel()
				got, err := New(Options{}).EKSToken(background(t), tt.keys, tt.endpoint, tt.cluster)
				if err != nil {
					t.Fatal(err)
				}
				raw, _ := strings.CutPrefix(got.Token.Reveal(), "k8s-aws-v1.")
				signed, err := base64.RawURLEncoding.DecodeString(raw)
				if err != nil {
					t.Fatal(err)
				}
				at := signedAt(t, string(signed))
				if want := at.Add(14 * time.Minute); !got.Expires.Equal(want) {
					t.Errorf("expires at %s, want %s", got.Expires, want)
				}
				out := frozen(t, at, tt.keys, tt.endpoint, cli.path, "eks", "get-token", "--cluster-name", tt.cluster)
				var said struct {
					Status struct {
						ExpirationTimestamp time.Time
						Token               string
					}
				}
				if err := json.Unmarshal(out, &said); err != nil || said.Status.Token != got.Token.Reveal() ||
					!said.Status.ExpirationTimestamp.Equal(got.Expires) {
					theirs, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(said.Status.Token, "k8s-aws-v1."))
					t.Errorf("%v, the AWS CLI says\n%s\nuntil %s, want\n%s\nuntil %s", err, theirs,
						said.Status.ExpirationTimestamp, signed, got.Expires)
				}
			})
		}
		for _, tt := range []struct {
			name       string
			keys       Keys
			region     string
			host, user string
			recent     bool
		}{
			{"PostgreSQL", session, "eu-west-1", "db.cxx1.eu-west-1.rds.amazonaws.com:5432", "paul", false},
			{"MySQL", userKeys(), "us-east-1", "db.cxx1.us-east-1.rds.amazonaws.com:3306", "Paul_1", false},
			{"China", session, "cn-north-1", "db.cxx1.rds.cn-north-1.amazonaws.com.cn:5432", "paul", false},
			{"GovCloud", session, "us-gov-west-1", "db.cxx1.us-gov-west-1.rds.amazonaws.com:5432", "paul", false},
			{"capitals", session, "eu-west-1", "DB.Cxx1.eu-west-1.RDS.amazonaws.com:5432", "PAUL", false},
			{"the port of https", session, "eu-west-1", "db.example.com:443", "paul", false},
			{"IPv6", session, "eu-west-1", "[fd00:ec2::17]:5432", "paul", true},
			{"special characters", session, "eu-west-1", "db.example.com:65535", "p a+u/l=ü&x?y#z@%20*~'\"", false},
		} {
			if tt.recent && cli.old {
				continue
			}
			t.Run(cli.path+" RDS "+tt.name, func(t *testing.T) {
				t.Parallel()
				got, err := New(Options{}).RDSToken(background(t), tt.keys, endpoint(tt.region), tt.host, tt.user)
				if err != nil {
					t.Fatal(err)
				}
				host, port, err := net.SplitHostPort(tt.host)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(host, ":") {
					host = "[" + host + "]"
				}
				at := signedAt(t, "https://"+got.Token.Reveal())
				if want := at.Add(15 * time.Minute); !got.Expires.Equal(want) {
					t.Errorf("expires at %s, want %s", got.Expires, want)
				}
				out := frozen(t, at, tt.keys, endpoint(tt.region), cli.path, "rds", "generate-db-auth-token", "--hostname", host,
					"--port", port, "--username", tt.user)
				if string(out) != got.Token.Reveal()+"\n" {
					t.Errorf("the AWS CLI says\n%s\nwant\n%s", out, got.Token.Reveal())
				}
			})
		}
	}
}

// commandLine is an AWS CLI. It is old if it is Debian 12's.
type commandLine struct {
	path string
	old  bool
}

// commandLines returns the AWS CLIs of this machine; faketime gives them their time.
func commandLines(t *testing.T) (found []commandLine) {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, "aws"))
		if err != nil || slices.ContainsFunc(found, func(c commandLine) bool { return c.path == path }) {
			continue
		}
		version, err := exec.CommandContext(t.Context(), path, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, commandLine{path, strings.HasPrefix(string(version), "aws-cli/2.9.")})
	}
	if _, err := exec.LookPath("faketime"); err == nil && len(found) > 0 {
		return found
	}
	const what = "the AWS CLI and faketime are not both installed; see `make deps-clients`"
	if os.Getenv("CI") == "true" {
		t.Fatal("MISSING: " + what)
	}
	t.Skip("NOT TESTED: " + what)
	return nil
}

// frozen runs the AWS CLI at one time, with keys in its environment, and returns what it prints.
func frozen(t *testing.T, at time.Time, keys Keys, e profiles.Endpoint, name string, args ...string) []byte {
	t.Helper()
	args = append([]string{"-f", at.Format(time.DateTime), name}, append(args, "--region", e.Region, "--output", "json")...)
	command := exec.CommandContext(t.Context(), "faketime", args...)
	command.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TZ=UTC", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keys.Secret.Reveal(), "AWS_STS_REGIONAL_ENDPOINTS=regional",
		"PYTHONUTF8=1", "PYENV_ROOT=" + os.Getenv("PYENV_ROOT"), "PYENV_VERSION=" + os.Getenv("PYENV_VERSION")}
	if !keys.Token.IsZero() {
		command.Env = append(command.Env, "AWS_SESSION_TOKEN="+keys.Token.Reveal())
	}
	if e.FIPS {
		command.Env = append(command.Env, "AWS_USE_FIPS_ENDPOINT=true")
	}
	if e.URL != "" {
		command.Env = append(command.Env, "AWS_ENDPOINT_URL_STS="+e.URL)
	}
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args, err, problems.String())
	}
	return out
}

// signedAt returns the time of a presigned URL.
func signedAt(t *testing.T, signed string) time.Time {
	t.Helper()
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}
