//go:build unix

package profiles

import (
	"strings"
	"testing"
)

// TestTools checks what each tool does with a profile named dev, for different contents of the files.
func TestTools(t *testing.T) {
	const (
		linked   = "[profile dev]\nregion = eu-west-1\ncredential_process = /bin/credproc dev\n"
		role     = "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n"
		keys     = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n"
		registry = sourceSection + "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = security\n"
	)
	every := func(want string) map[string]string { return map[string]string{"": want} }
	for _, tt := range []struct {
		what, config, credentials string
		env                       map[string]string
		want                      map[string]string // by tool; "" for the other tools; the value is the start of "from: text"
	}{
		{what: "linked", config: linked, want: map[string]string{"": "broker: asks credproc",
			"JS SDK 2": "nobody: reads the config only with AWS_SDK_LOAD_CONFIG=1; then it asks credproc", "Serverless 3": "nobody: cannot read credential_process; broker exec --mode file dev -- sls deploy --aws-profile dev, or broker publish dev"}},
		{what: "linked, and JS SDK 2 is told to look", config: linked, env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "broker: asks credproc", "Serverless 3": "nobody: "}},
		{what: "linked by another name", config: strings.Replace(linked, "credproc dev", "credproc security", 1), env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "broker: asks credproc for security", "Serverless 3": "nobody: "}},
		{what: "linked to a name that is gone", config: strings.Replace(linked, "credproc dev", "credproc gone", 1), env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": `nobody: asks credproc for "gone", which credproc cannot serve (/config:3)`, "Serverless 3": "nobody: cannot"}},
		{what: "in no file", want: every("nobody: does not know this profile; broker profiles link dev")},
		{what: "a region alone", config: "[profile dev]\nregion = eu-west-1\n", want: every("nobody: finds no credentials in /config:1; broker profiles link dev")},
		{what: "a role whose source is only in the keyring", config: role,
			want: every(`nobody: reads the role_arn first (/config:2), whose source_profile "security" is in no AWS file; broker profiles link dev`)},
		{what: "a role whose source has no keys", config: role + "[profile security]\nregion = eu-west-1\n",
			want: every(`nobody: reads the role_arn first (/config:2), whose source_profile "security" has no keys`)},
		{what: "a role whose source still has its plain key", config: role, credentials: "[security]\n" + keys,
			want: map[string]string{"": "else: assumes the role with the plain key at /credentials:2", "JS SDK 2": "nobody: reads the config only"}},
		{what: "a role whose source is linked", config: role + "[profile security]\ncredential_process = credproc security\n",
			want: map[string]string{"": "broker: assumes the role itself, with the session that credproc gives for security", "JS SDK 2": "nobody: ", "Serverless 3": "nobody: "}},
		{what: "a role without a source", config: "[profile dev]\nrole_arn = " + account + "dev\n", want: every("nobody: reads the role_arn first (/config:2), which has no source_profile")},
		{what: "linked, but the role is still there", config: linked + "role_arn = " + account + "dev\nsource_profile = security\n", env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "nobody: reads the role_arn first (/config:4)", "JS SDK 2": "broker: asks credproc", "JS SDK 3": "broker: asks credproc"}},
		{what: "keys in the credentials file win", config: linked, credentials: "[dev]\n" + keys,
			want: map[string]string{"": "else: uses the keys at /credentials:2 instead", "Java SDK": "broker: asks credproc"}},
		{what: "keys in the config win for some", config: linked + keys, env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "else: uses the keys at /config:4 instead", "AWS CLI": "broker: ", "boto3": "broker: ", "Java SDK": "broker: "}},
		{what: "another helper", config: "[profile dev]\ncredential_process = /bin/other\n", want: map[string]string{"": "else: runs another program (/config:2)",
			"JS SDK 2": "nobody: reads the config only with AWS_SDK_LOAD_CONFIG=1; then it runs", "Serverless 3": "nobody: "}},
		{what: "a console login", config: "[profile dev]\nlogin_session = x\n", env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"}, want: map[string]string{
			"": "else: uses the session of aws login, if the tool is new enough (/config:2)", "JS SDK 2": "nobody: finds no credentials in /config:1; broker profiles link dev",
			"Serverless 3": "nobody: finds no credentials in /config:1; broker profiles link dev"}},
		{what: "IAM Identity Center", config: linked + "sso_session = corp\n", env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"}, want: map[string]string{"": "else: uses IAM Identity Center (/config:4)",
			"JS SDK 2": "broker: ", "JS SDK 3": "broker: ", "CDK": "broker: ", "osls 4": "broker: ", "Serverless 3": "nobody: "}},
		{what: "a web identity", config: "[profile dev]\nrole_arn = " + account + "dev\nweb_identity_token_file = /token\n", env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "else: exchanges a web identity token (/config:3)", "Serverless 3": "nobody: finds no credentials"}},
		{what: "a section that is there twice", config: linked + "[profile x]\nregion = a\n[profile x]\nregion = b\n", env: map[string]string{"AWS_SDK_LOAD_CONFIG": "1"},
			want: map[string]string{"": "broker: asks credproc", "AWS CLI": "nobody: refuses the whole file: the line begins a section a second time (/config:6)", "boto3": "nobody: refuses", "Serverless 3": "nobody: "}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			set := load(t, tt.config, tt.credentials, registry)
			verdicts := set.Tools("dev", func(name string) string { return tt.env[name] })
			if len(verdicts) != len(tools()) {
				t.Fatalf("%d verdicts", len(verdicts))
			}
			for _, v := range verdicts {
				want, ok := tt.want[v.Tool]
				if !ok {
					want = tt.want[""]
				}
				if got := v.From + ": " + v.Text; !strings.HasPrefix(got, want) {
					t.Errorf("%s: %s\nwant %s", v.Tool, got, want)
				}
			}
		})
	}
}

// TestWayOf checks that WayOf finds everything that a tool would follow, even if it leads nowhere, and nothing
// else.
func TestWayOf(t *testing.T) {
	const keys = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n"
	for _, tt := range []struct{ config, credentials, want string }{
		{"", "", ""},
		{"[default]\nregion = eu-west-1\noutput = json\n", "", ""},
		{"[profile dev]\nrole_arn = x\n", "[dev]\n" + keys, ""},
		{"", "[default]\n" + keys, "/credentials:2"},
		{"[default]\n" + keys, "", "/config:2"},
		{"[default]\nregion = x\nrole_arn = " + account + "dev\nsource_profile = gone\n", "", "/config:3"},
		{"[profile default]\ncredential_process = /bin/credproc dev\n", "", "/config:2"},
		{"[default]\nsso_session = corp\n", "", "/config:2"},
		{"[default]\nrole_arn = x\nweb_identity_token_file = /t\n", "", "/config:3"},
	} {
		got := ""
		if at, ok := load(t, tt.config, tt.credentials, "").WayOf("default"); ok {
			got = at.String()
		}
		if !strings.HasSuffix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%q, %q: %q, want %q", tt.config, tt.credentials, got, tt.want)
		}
	}
}

// TestEnvironment checks that variables that override a profile are listed, that others are not, and that no
// secret is shown.
func TestEnvironment(t *testing.T) {
	got := map[string]string{}
	for _, v := range Environment("dev", "eu-west-1", []string{
		"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=wJalr/hidden", "AWS_SESSION_TOKEN=hidden", "AWS_PROFILE=other", "AWS_DEFAULT_PROFILE=dev",
		"AWS_CONFIG_FILE=/c", "AWS_SHARED_CREDENTIALS_FILE=/s", "AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://hidden@x",
		"AWS_ENDPOINT_URL=http://hidden@x", "AWS_ENDPOINT_URL_STS=http://x", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=eu-west-1", "AWS_PAGER=", "HOME=/h", "AWS_ROLE_ARN=",
	}) {
		got[v.Name] = v.Text
		if strings.Contains(v.Text, "hidden") || strings.Contains(v.Text, "AKIA") {
			t.Errorf("%s: a secret value is shown: %s", v.Name, v.Text)
		}
	}
	for name, want := range map[string]string{
		"AWS_ACCESS_KEY_ID": "wins over AWS_PROFILE in the AWS CLI", "AWS_PROFILE": `"other"`, "AWS_CONFIG_FILE": "instead of", "AWS_SHARED_CREDENTIALS_FILE": "instead of",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "token", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "JS SDK 2", "AWS_ENDPOINT_URL": "not to AWS", "AWS_ENDPOINT_URL_STS": "not to AWS",
		"AWS_REGION": "use us-east-1, not the profile's eu-west-1",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q in it", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("listed although they change nothing: %v", got)
	}
	if v := Environment("dev", "", []string{"AWS_DEFAULT_PROFILE=x", "AWS_REGION=us-east-1"}); len(v) != 2 ||
		!strings.Contains(v[0].Text, "before AWS_PROFILE") ||
		!strings.Contains(v[1].Text, "has no region") {
		t.Error(v)
	}
}
