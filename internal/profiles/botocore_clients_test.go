//go:build clients && unix

package profiles

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// botocoreServer reads files with botocore. For selected profiles it reports which provider supplies the
// credentials, without starting a helper or calling AWS.
const botocoreServer = `
import json, os, sys
import botocore.session, botocore.exceptions, botocore.credentials
for name in list(os.environ):
    if name.startswith("AWS_"):
        del os.environ[name]
session = botocore.session.Session() # one for all: making it takes most of the time
def read(profile):
    session._config = session._profile_map = session._profile = None
    session.set_config_variable("profile", profile)
    return session.full_config
def provider(name):
    read(name)
    try:
        for p in botocore.credentials.create_credential_resolver(session).providers:
            if p.METHOD == "custom-process":
                return session.get_scoped_config().get("credential_process", "no helper")
            if p.load() is not None:
                return p.METHOD
    except Exception as e:
        return type(e).__name__
for line in sys.stdin:
    config, credentials, names = json.loads(line)
    os.environ["AWS_CONFIG_FILE"], os.environ["AWS_SHARED_CREDENTIALS_FILE"] = config, credentials
    try:
        answer = {"config": read(None), "providers": {n: provider(n) for n in names}}
    except botocore.exceptions.BotoCoreError as e:
        answer = {"error": type(e).__name__}
    print(json.dumps(answer), flush=True)
`

type botocoreView struct {
	Error     string
	Config    map[string]any
	Providers map[string]string
}

// A reader asks one botocore process about all files of a test.
type reader func(docs Documents, names []string) botocoreView

// startBotocore starts a reader. Its process runs until the test ends.
func startBotocore(t *testing.T) reader {
	t.Helper()
	cmd := exec.Command(python(t), "-c", botocoreServer)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	to, from, dir := json.NewEncoder(in), json.NewDecoder(out), t.TempDir()
	return func(docs Documents, names []string) (v botocoreView) {
		config, credentials := filepath.Join(dir, "config"), filepath.Join(dir, "credentials")
		write(t, config, string(docs[ConfigDocument]))
		write(t, credentials, string(docs[CredentialsDocument]))
		if err := to.Encode([]any{config, credentials, append([]string{}, names...)}); err != nil {
			t.Fatal(err)
		}
		if err := from.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestClientBotocoreReads checks that Broker and botocore agree on random files: on whether botocore accepts a
// file, and on the values in accepted files. The exception is a comment after a value, which botocore treats as
// part of the value.
func TestClientBotocoreReads(t *testing.T) {
	read := startBotocore(t)
	n := runs(3_000) // botocore accepts more than 2,000 of twice as many
	t.Logf("seeds 0 to %d", n-1)
	taken, values := 0, 0
	wrong := func(docs Documents) string {
		theirs := read(docs, nil)
		ours := everything(docs)
		set, err := docs.set(linkFiles)
		if err != nil {
			return err.Error()
		}
		refused := refusal(docs)
		switch {
		case theirs.Error == "" && len(ours["profiles"])+len(ours["services"])+len(ours["sso_sessions"]) == 0:
			return "" // botocore ignores [DEFAULT], and errors in it, if the file has nothing else
		case (theirs.Error != "") != (refused != ""):
			return fmt.Sprintf("botocore's error is %q, Broker predicts %q", theirs.Error, refused)
		case theirs.Error != "":
			return ""
		}
		taken++
		for _, kind := range []string{"profiles", "services", "sso_sessions"} {
			all, _ := theirs.Config[kind].(map[string]any)
			maps.DeleteFunc(all, func(name string, _ any) bool { return checkName(name) != nil || trimSpace(name) != name })
			if was, is := slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(ours[kind])); !slices.Equal(was, is) {
				return fmt.Sprintf("%s: botocore reads %q, Broker %q", kind, was, is)
			}
			for name, section := range all {
				their := section.(map[string]any)
				our := ours[kind][name]
				if was, is := slices.Sorted(maps.Keys(their)), slices.Sorted(maps.Keys(our)); !slices.Equal(was, is) {
					return fmt.Sprintf("%q: botocore reads the keys %q, Broker %q", name, was, is)
				}
				for key, value := range their {
					values++
					if !sameValue(value, our[key]) {
						return fmt.Sprintf("%s of %q: botocore reads %q, Broker %q", key, name, value, our[key])
					}
					p, _ := set.lookup(name)
					if text, is := our[key].(string); is && text != "" && kind == "profiles" && key == intern(awsKeys, []byte(key)) &&
						key != keySecretKey && key != keySessionToken && p.aws.text(key) != text {
						return fmt.Sprintf("%s of %q: botocore reads %q, Broker resolves with %q", key, name, value, p.aws.text(key))
					}
				}
			}
		}
		return ""
	}
	check := func(seed uint64, docs Documents) {
		if bad := wrong(docs); bad != "" {
			small := shrink(docs, func(d Documents) bool { return wrong(d) != "" })
			t.Errorf("seed %d: %s\nthe smallest such files: %s\n%q\n%q", seed, bad, wrong(small), small[ConfigDocument],
				small[CredentialsDocument])
		}
	}
	for seed := range uint64(n) {
		check(seed, wild(seed))
	}
	if t.Logf("botocore accepted %d wild files", taken); taken < n/10 {
		t.Errorf("botocore accepts only %d of %d wild files", taken, n)
	}
	for seed, docs := range oracleFiles(t, n) {
		check(seed, docs)
	}
	t.Logf("botocore accepted %d files; %d values were compared", taken, values)
	if taken < n*2/3 || values < 4*n {
		t.Error("the test is void")
	}
}

// refusal returns the reason that Broker gives for botocore's refusal of the files.
func refusal(docs Documents) string {
	for i, credentials := range []bool{false, true} {
		if d, _ := scan(docs[ConfigDocument+Document(i)], credentials); d.refused != nil {
			return d.refused.text
		}
	}
	return ""
}

// everything returns all that Broker reads of the AWS files, merged as botocore merges them: values, and maps of
// nested values.
func everything(docs Documents) map[string]map[string]map[string]any {
	all := map[string]map[string]map[string]any{"profiles": {}, "services": {}, "sso_sessions": {}}
	kinds := map[string]string{SectionProfile: "profiles", SectionCredentials: "profiles", SectionServices: "services",
		SectionSSO: "sso_sessions"}
	for i, credentials := range []bool{false, true} {
		d, _ := scan(docs[ConfigDocument+Document(i)], credentials)
		inherited := map[string]*entry{}
		for _, s := range d.sections {
			for i := range s.entries {
				if s.kind == sectionInherited {
					inherited[strings.ToLower(string(s.entries[i].key))] = &s.entries[i]
				}
			}
		}
		for _, s := range d.sections {
			kind := kinds[s.kind]
			if kind == "" || s.loose || trimSpace(s.name) != s.name {
				continue
			}
			if all[kind][s.name] == nil {
				all[kind][s.name] = map[string]any{}
			}
			for _, e := range slices.Concat(slices.Collect(maps.Values(inherited)), d.entriesOf(s.kind, s.name)) {
				var value any = string(e.value)
				if len(e.nested) > 0 {
					nested := map[string]any{}
					for _, n := range e.nested {
						nested[string(n.key)] = string(n.value)
					}
					value = nested
				}
				all[kind][s.name][strings.ToLower(string(e.key))] = value
			}
		}
	}
	return all
}

// sameValue compares two values. It allows botocore's value to end in a comment that Broker strips.
func sameValue(theirs, ours any) bool {
	text, is := theirs.(string)
	if !is || reflect.DeepEqual(theirs, ours) {
		return reflect.DeepEqual(theirs, ours)
	}
	first, rest, more := strings.Cut(" "+text, "\n")
	for i := 1; i < len(first); i++ {
		if (first[i] == '#' || first[i] == ';') && (first[i-1] == ' ' || first[i-1] == '\t') {
			first = first[:i]
		}
	}
	if first = trimSpace(first); more {
		first += "\n" + rest
	}
	return first == ours
}

// TestClientBotocoreAfterLink checks that for any AWS files that botocore accepts, botocore reads the same values
// after link and takes the credentials from the helper.
func TestClientBotocoreAfterLink(t *testing.T) {
	properties := botocoreProperties(t)
	oracle(t, oracleFiles(t, runs(2_000)), properties)
	oracle(t, wildFiles(t, runs(2_000)), properties)
}

// botocoreProperties returns the properties that need botocore.
func botocoreProperties(t *testing.T) []linkProperty {
	t.Helper()
	botocore := startBotocore(t)
	files, helpers := 0, 0
	t.Cleanup(func() {
		t.Logf("botocore read %d files and looked for the credentials of %d linked profiles", files, helpers)
		if files == 0 || helpers == 0 {
			t.Error("the test is void")
		}
	})
	read := func(docs Documents, names []string) botocoreView {
		v := botocore(docs, names)
		if helpers += len(v.Providers); v.Error == "" {
			files++
		}
		return v
	}
	return []linkProperty{
		{botocoreSame, func(start Documents, _ uint64) string {
			before := read(start, nil)
			docs, wrong := ran(start, LinkOrder, linkPlan())
			if wrong != "" || before.Error != "" {
				return wrong
			}
			after := read(docs, nil)
			if after.Error != "" {
				return "botocore says " + after.Error
			}
			was, _ := before.Config["profiles"].(map[string]any)
			is, _ := after.Config["profiles"].(map[string]any)
			maps.DeleteFunc(is, func(name string, _ any) bool { return was[name] == nil }) // link created these profiles
			before.Config["profiles"], after.Config["profiles"] = withoutRoles(was), withoutRoles(is)
			if !reflect.DeepEqual(before, after) {
				return fmt.Sprintf("botocore read\n%v\nand reads\n%v", before.Config, after.Config)
			}
			return ""
		}},
		{botocoreAsks, func(start Documents, _ uint64) string {
			if read(start, nil).Error != "" {
				return ""
			}
			docs := start
			outcomes, err := memory(&docs, LinkOrder, linkPlan())
			if err != nil {
				return err.Error()
			}
			var names []string
			for _, o := range outcomes {
				if o.State == Changed {
					names = append(names, o.Name)
				}
			}
			after := read(docs, names)
			for name, provider := range after.Providers {
				if words := SplitCommand(provider); len(words) < 2 || words[0] != credprocPath || helperProfile(words) != name {
					return fmt.Sprintf("botocore takes the credentials of %q from %s", name, provider)
				}
			}
			return ""
		}},
	}
}
