package foreign

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/testproc"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

// elsewhere reads one of the cases in testdata/foreign.
func elsewhere(t *testing.T, tool Tool) Elsewhere {
	t.Helper()
	from := Elsewhere{Tool: tool, Files: profiles.Files{Config: "config", Credentials: "credentials"}, Keys: []string{"work", "home", "iam", "deploy"}, Credproc: "/usr/local/bin/credproc"}
	var err error
	if from.Config, err = os.ReadFile("testdata/" + string(tool) + ".before"); err != nil {
		t.Fatal(err)
	}
	if from.Credentials, err = os.ReadFile("testdata/" + string(tool) + ".credentials"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	from.SettingsFile = "config.yaml"
	if from.Settings, err = os.ReadFile("testdata/" + string(tool) + ".yaml"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return from
}

var update = flag.Bool("update", false, "write the golden files again")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v\ngot:\n%s\nwant:\n%s", name, err, got, want)
	}
}

// TestTranslate: what a realistic config of each tool becomes, and which messages it gives. A second run changes
// nothing, and other lines stay, whatever their line ends are.
func TestTranslate(t *testing.T) {
	for _, tool := range tools {
		t.Run(string(tool), func(t *testing.T) {
			from := elsewhere(t, tool)
			before := bytes.Clone(from.Config)
			got, err := Translate(from)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(from.Config, before) {
				t.Error("the source was changed")
			}
			golden(t, string(tool)+".after", got.Config)
			var said strings.Builder
			for _, w := range got.Changed {
				said.WriteString(w.String() + "\n")
			}
			for _, w := range got.Left {
				said.WriteString("left: " + w.String() + "\n")
			}
			golden(t, string(tool)+".said", []byte(said.String()))

			from.Config = got.Config
			again, err := Translate(from)
			if err != nil || !bytes.Equal(again.Config, got.Config) || len(again.Changed) > 0 ||
				len(again.Left) != len(got.Left) {
				t.Errorf("again: %v, %v\n%v\n%s", err, again.Changed, again.Left, again.Config)
			}
			from.Config = bytes.ReplaceAll(before, []byte("\n"), []byte("\r\n"))
			crlf, err := Translate(from)
			if err != nil || !bytes.Equal(crlf.Config, bytes.ReplaceAll(got.Config, []byte("\n"), []byte("\r\n"))) {
				t.Errorf("with CRLF: %v\n%q", err, crlf.Config)
			}
		})
	}
}

// TestTranslatedIsResolved: the resulting chains.
func TestTranslatedIsResolved(t *testing.T) {
	registry := ""
	for _, name := range []string{"work", "home", "iam", "user", "default", "deploy"} {
		registry += "[source " + name + "]\naccess_key_id = AKIAEXAMPLEEXAMPLE12\n"
	}
	for tool, want := range map[Tool]map[string][]string{
		AWSVault: {"prod": {"admin"}, "dev": {"admin"}, "prod-process": {"admin"}, "home": {"own"}, "work": nil, "spaced": nil},
		Granted: {"iam": nil, "iam2": nil, "role": {"admin"}, "devs/DevRole": nil, "scoped": nil, "half": nil, "native": nil,
			"alias": nil},
		AWSSSO:   {"258234615182:AWSAdministratorAccess": nil, "another": nil, "short": nil, "no-instance": nil},
		Awsume:   {"admin": {"admin"}, "user": nil, "ops": {"admin", "ops"}},
		AWSRunas: {"one": {"one"}, "two": {"two"}, "far": {"jump", "far"}},
		AWSMFA:   {"work": nil, "deploy": {"deploy"}},
	} {
		config, err := os.ReadFile("testdata/" + string(tool) + ".after")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		files := profiles.Files{AWS: dir, Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials"),
			Registry: filepath.Join(dir, "registry")}
		for path, text := range map[string][]byte{files.Config: config, files.Registry: []byte(registry)} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		set, err := new(profiles.Store).Load(files)
		if err != nil {
			t.Fatal(tool, err)
		}
		for name, roles := range want {
			chain, err := set.Resolve(name)
			var got []string
			for _, r := range chain.Roles {
				got = append(got, r.ARN[strings.LastIndexByte(r.ARN, '/')+1:])
			}
			if err != nil || strings.Join(got, " ") != strings.Join(roles, " ") {
				t.Errorf("%s: %s is %v, %v", tool, name, got, err)
			}
		}
	}
}

func TestTranslateRefuses(t *testing.T) {
	if _, err := Translate(Elsewhere{Tool: "other"}); !fault.Is(err, fault.Usage) {
		t.Errorf("another tool: %v", err)
	}
	for _, bad := range []string{"[profile a]\x00", "[profile a]\nregion = \xff\n"} {
		if got, err := Translate(Elsewhere{Tool: AWSVault, Config: []byte(bad)}); !fault.Is(err, fault.Config) ||
			got.Config != nil && string(got.Config) != bad {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// A value that cannot be written elsewhere keeps the key that refers to it.
	src := "[profile a]\ninclude_profile = b\nrole_arn = arn:aws:iam::444455556666:role/a\n[profile b]\nsource_profile = x\n  y\n"
	if _, err := Translate(Elsewhere{Tool: AWSVault, Config: []byte(src)}); !fault.Is(err, fault.Config) {
		t.Errorf("%v", err)
	}
	// Names that a shell or an SDK would split are not written into a command.
	src = "[profile \"$(x)\"]\ncredential_process = aws-vault exec $(x)\n"
	got, err := Translate(Elsewhere{Tool: AWSVault, Config: []byte(src), Keys: []string{"$(x)"}, Credproc: "/bin/credproc"})
	if err != nil || string(got.Config) != src || len(got.Left) != 1 {
		t.Errorf("%v %v\n%s", err, got.Left, got.Config)
	}
	// A program path with a space is quoted, and so is a name.
	src = "[profile a]\ncredential_process = aws-vault exec a\n"
	got, err = Translate(Elsewhere{Tool: AWSVault, Config: []byte(src), Keys: []string{"a"}, Credproc: "/my bin/credproc"})
	if want := "[profile a]\ncredential_process = \"/my bin/credproc\" a\n"; err != nil || string(got.Config) != want {
		t.Errorf("%v\n%s", err, got.Config)
	}
}

func TestForeignProfile(t *testing.T) {
	for command, want := range map[string]string{
		"exec work --json":                                   "work",
		"exec --json work":                                   "work",
		"exec --json --prompt=ykman work":                    "work",
		"--backend file exec -d 1h work -j":                  "work",
		"export --format=json work":                          "work",
		"export --format json -- work":                       "work",
		"credential-process --profile work":                  "work",
		"credential-process --profile=work --auto-login":     "work",
		"--aws-config-file x credential-process --profile a": "a",
		"exec work -- sh -c env":                             "",
		"exec":                                               "",
		"login work":                                         "",
		"":                                                   "",
	} {
		if got := foreignProfile(profiles.SplitCommand(command)); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
}

func TestRemoveTemporary(t *testing.T) {
	src, err := os.ReadFile("testdata/aws-mfa.credentials")
	if err != nil {
		t.Fatal(err)
	}
	// A key that was not imported is not touched, nor are the sections that belong to it.
	dst, names, err := AWSMFA.RemoveTemporary("credentials", src, nil)
	if err != nil || !bytes.Equal(src, dst) || len(names) > 0 {
		t.Errorf("%v %v\n%s", err, names, dst)
	}
	if src, err = profiles.RemovePlainKey(src, profiles.SectionCredentials, "work-long-term"); err != nil {
		t.Fatal(err)
	}
	dst, names, err = AWSMFA.RemoveTemporary("credentials", src, []string{"work"})
	if err != nil || strings.Join(names, " ") != "work" || bytes.Contains(dst, []byte("[work")) || !bytes.HasPrefix(dst, []byte("[deploy-long-term]\naws_access_key_id")) {
		t.Errorf("%v %v\n%s", err, names, dst)
	}
	src = []byte("[user]\naws_access_key_id = AKIA\naws_secret_access_key = s\n[autoawsume-user]\naws_access_key_id = ASIA\naws_session_token = t\nautoawsume = true\n[mine]\naws_access_key_id = ASIA\naws_session_token = t\n")
	dst, names, err = Awsume.RemoveTemporary("credentials", src, nil)
	if err != nil || strings.Join(names, " ") != "autoawsume-user" || bytes.Contains(dst, []byte("autoawsume")) || !bytes.Contains(dst, []byte("[mine]")) {
		t.Errorf("%v %v\n%s", err, names, dst)
	}
}

// FuzzTranslate: for any config, the result can be parsed, a second run changes nothing, and no profile is lost.
func FuzzTranslate(f *testing.F) {
	for _, tool := range tools {
		src, err := os.ReadFile("testdata/" + string(tool) + ".before")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(src))
	}
	f.Add("[profile a]\ninclude_profile=a\n[profile b]\nrole_arn=x\nsource_profile=b\ninclude_profile=default\n[default]\nsource_profile=b\n")
	f.Add("[profile a]\ncredential_process = aws-vault exec a\n[profile a]\nregion=b\ncredentials_duration=1h\nrole_arn=c\n")
	f.Fuzz(func(t *testing.T, src string) {
		translateTwice(t, src)
	})
}

// translateTwice checks what must hold for every config.
func translateTwice(t *testing.T, src string) {
	t.Helper()
	for _, tool := range tools {
		from := Elsewhere{Tool: tool, Config: []byte(src), Credentials: []byte(src), Keys: []string{"a", "b", "work"}, Credproc: "/bin/credproc"}
		once, err := Translate(from)
		if err != nil {
			continue
		}
		from.Config = once.Config
		twice, err := Translate(from)
		if err != nil || !bytes.Equal(once.Config, twice.Config) || len(twice.Changed) > 0 {
			t.Fatalf("%s: %v %v\n%s\nbecame\n%s\nand then\n%s", tool, err, twice.Changed, src, once.Config, twice.Config)
		}
		before, _ := profiles.Sections("before", []byte(src), profiles.SectionProfile)
		after, err := profiles.Sections("after", once.Config, profiles.SectionProfile)
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		if len(after) < len(before) {
			t.Fatalf("%s: %d sections of %d are left", tool, len(after), len(before))
		}
	}
}

// TestTranslateAnything does the same for configs of random profiles that refer to each other.
func TestTranslateAnything(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	names := []string{"default", "a", "b", "c", "a-jump"}
	values := map[string][]string{
		"include_profile": names, "parent_profile": names, keySourceProfile: append(names, "work", "gone"),
		keyRoleARN: {"arn:aws:iam::444455556666:role/r", "arn:aws:iam::444455556666:role/s"}, "jump_role_arn": {"arn:aws:iam::444455556666:role/j", "x"},
		keyRegion: {"eu-west-1", "us-east-1"}, keyMFASerial: {"arn:aws:iam::111122223333:mfa/paul"}, keyMFAProcess: {"ykman x"}, keyDuration: {"900"},
		"credentials_duration": {"1h", "30h", ""}, "role_duration": {"900", "x"}, "session_token_duration": {"8h"}, keySSOStartURL: {"https://x"},
		"saml_auth_url": {"https://x"}, "principal_arn": {"x"}, "granted_sso_start_url": {"https://x"},
		keyCredentialProcess: {"aws-vault exec a --json", "aws-vault exec work", "granted credential-process --profile b", "granted credential-process --profile=work", "other a"},
	}
	keys := slices.Sorted(maps.Keys(values))
	for range 3000 {
		var src strings.Builder
		for _, name := range names[:1+random.IntN(len(names))] {
			if random.IntN(4) == 0 {
				continue
			}
			src.WriteString(strings.ReplaceAll("[profile "+name+"]\n", "profile default", "default"))
			for range random.IntN(7) {
				key := keys[random.IntN(len(keys))]
				src.WriteString(key + " = " + values[key][random.IntN(len(values[key]))] + "\n")
			}
		}
		translateTwice(t, src.String())
	}
}

// TestReadInstances: the forms that docs/config.md of the tool shows are read, and other forms within SSOConfig are
// refused with their line. No text makes it panic.
func TestReadInstances(t *testing.T) {
	const one = "SSOConfig:\n  a:\n    SSORegion: eu-west-1\n    StartUrl: https://a.awsapps.com/start\n"
	for name, tt := range map[string]struct {
		text string
		want string // name, URL and region of each, or a part of the error
	}{
		"plain":             {one, "a https://a.awsapps.com/start eu-west-1"},
		"document start":    {"---\n# mine\n" + one, "a https://a.awsapps.com/start eu-west-1"},
		"quoted":            {"SSOConfig:\n  \"a b\":\n    StartUrl: \"https://a/start/#\" # c\n    SSORegion: 'eu-west-1'\n", "a b https://a/start/# eu-west-1"},
		"a # of an address": {"SSOConfig:\n  a:\n    StartUrl: https://a/start/#\n", "a https://a/start/# "},
		"CRLF":              {strings.ReplaceAll(one, "\n", "\r\n"), "a https://a.awsapps.com/start eu-west-1"},
		"others":            {"Other:\n  b:\n    StartUrl: x\n" + one + "ListFields: [a, b]\nX: {a: b}\n", "a https://a.awsapps.com/start eu-west-1"},
		"empty":             {"", ""},
		"a flow mapping":    {"SSOConfig: {a: {StartUrl: x}}\n", "config.yaml:1: "},
		"flow in it":        {"SSOConfig:\n  a: {StartUrl: x}\n", "config.yaml:2: "},
		"an anchor":         {"SSOConfig:\n  a: &x\n    StartUrl: y\n", "config.yaml:2: "},
		"an alias":          {"SSOConfig:\n  a:\n    <<: *x\n", "config.yaml:3: "},
		"a list":            {"SSOConfig:\n  - a\n", "config.yaml:2: "},
		"a block text":      {"SSOConfig:\n  a:\n    StartUrl: >\n      x\n", "config.yaml:3: "},
	} {
		s, err := readInstances("config.yaml", []byte(tt.text))
		var got []string
		for _, i := range s.all {
			got = append(got, i.name+" "+i.startURL+" "+i.region)
		}
		if is := strings.Join(got, ", "); err == nil && is != tt.want || err != nil &&
			(tt.want == "" || !strings.Contains(err.Error(), tt.want) || !fault.Is(err, fault.Config)) {
			t.Errorf("%s: %q, %v; want %q", name, is, err, tt.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	const alphabet = "SSOConfig:\n\t -\"'#{}[]&*a:\\\x00é"
	for range 20000 {
		text := []byte("SSOConfig:\n")
		for range r.IntN(40) {
			text = append(text, alphabet[r.IntN(len(alphabet))])
		}
		_, _ = readInstances("config.yaml", text)
	}
}
