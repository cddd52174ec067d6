package foreign

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// AWS's own keys, and mfa_process, that the translation uses.
const (
	keyRoleARN           = "role_arn"
	keySourceProfile     = "source_profile"
	keyExternalID        = "external_id"
	keyMFASerial         = "mfa_serial"
	keyMFAProcess        = "mfa_process"
	keySessionName       = "role_session_name"
	keyDuration          = "duration_seconds"
	keyRegion            = "region"
	keyWebIdentity       = "web_identity_token_file"
	keySSOSession        = "sso_session"
	keySSOStartURL       = "sso_start_url"
	keyCredentialProcess = "credential_process"
)

// Translation is the result of Translate.
type Translation struct {
	Config  []byte
	Changed []profiles.Warning // what was changed, with the line where it was
	Left    []profiles.Warning // what has no translation and stays, with the reason
	Login   string             // a session of IAM Identity Center that the change added or that a profile now uses
}

// Elsewhere is what another tool left in the AWS files.
type Elsewhere struct {
	Tool        Tool
	Files       profiles.Files
	Config      []byte   // of Files.Config
	Credentials []byte   // of Files.Credentials; only aws-mfa keeps its settings there
	Keys        []string // the names of existing and future sources
	Credproc    string   // the program that replaces the tool's helper
	// SettingsFile and Settings are the tool's own settings file, of tools for which SettingsPath returns one.
	SettingsFile string
	Settings     []byte
}

// Translate replaces keys that only the other tool reads by AWS's own keys, so that the profiles mean the same to
// Broker and to every AWS tool as they did to that tool. It keeps all other lines, as SetSection does, reads and
// writes no file, and is idempotent. Errors: fault.Usage for an unknown tool; fault.Config, with the line, for a
// file that is not text.
//
// The meaning of the keys comes from the sources and pages of the tools: vault/config.go and USAGE.md of
// github.com/99designs/aws-vault, awsume/awsumepy/lib/profile.py of github.com/trek10inc/awsume,
// docs/iam_config.md and docs/saml_client_config.md of github.com/mmmorris1975/aws-runas, awsmfa/__init__.py of
// github.com/broamski/aws-mfa, pkg/cfaws and pkg/granted of github.com/common-fate/granted, docs/config.md and
// cmd/aws-sso of github.com/synfinatic/aws-sso-cli.
func Translate(from Elsewhere) (Translation, error) {
	if !from.Tool.Known() {
		return Translation{}, fault.New(fault.Usage, "there is no tool %q; it can be %s", from.Tool, Names())
	}
	t := &translating{Elsewhere: from}
	if err := t.read(); err != nil {
		return Translation{}, err
	}
	switch from.Tool {
	case AWSMFA:
		t.longTerm()
	case AWSSSO:
		t.instances()
	case Granted:
		for _, name := range t.names { // before the helpers that name these profiles
			t.grantedPortal(name)
		}
	}
	for _, name := range t.names {
		switch from.Tool {
		case AWSVault:
			t.include(name)
			t.helper(name)
			t.leave(name, "counts in the registry only; add it there", "session_tags", "source_identity")
			t.leave(name, "counts in the registry only, as transitive_tags; add it there", "transitive_session_tags")
		case Granted:
			t.helper(name)
		case AWSSSO:
			t.ssoHelper(name)
		case Awsume:
			if t.leave(name, "is for SAML, which Broker does not support", "principal_arn") {
				continue
			}
			t.inherit(name, keyRegion)
			t.duration(name, "role_duration")
		case AWSRunas:
			t.leave(name, "applies to all sources in Broker: see session_duration in [settings] of the registry",
				"session_token_duration")
			if t.leave(name, "is for SAML or web identity, which Broker does not support", samlKeys...) {
				continue
			}
			t.duration(name, "credentials_duration", t.text(name, keySourceProfile), "default")
			t.jump(name)
			t.inherit(name, keyRegion, keyMFASerial)
		}
	}
	t.result.Config = bytes.Join(t.parts, nil)
	return t.result, t.err
}

// samlKeys are the keys of aws-runas for logins that do not use an IAM user.
var samlKeys = []string{"saml_auth_url", "saml_metadata_url", "web_identity_auth_url", "auth_url"}

// translating is one call of Translate.
type translating struct {
	Elsewhere
	names []string // names of the profiles, in file order
	own   map[string]map[string]foreignValue
	lines map[string]int // lines of their headers
	// parts are the sections of the config, so that an edit need not parse a large file again; at maps profiles to
	// them.
	parts [][]byte
	at    map[string]int

	sessions map[string]portal // sections [sso-session NAME]
	yaml     settingsYAML      // of aws-sso-cli
	usable   []string          // its instances that have a session

	result Translation
	err    error // the first error
}

// foreignValue is a value with its line; the line of a value that was written here is 0.
type foreignValue struct {
	text string
	line int
}

func (t *translating) read() error {
	sections, err := profiles.Sections(t.Files.Config, t.Config, profiles.SectionProfile)
	if err != nil {
		return err
	}
	t.portals(sections)
	t.own, t.lines, t.at = map[string]map[string]foreignValue{}, map[string]int{}, map[string]int{}
	from, twice := 0, false
	for i, s := range sections {
		if i > 0 {
			t.parts = append(t.parts, bytes.Clone(t.Config[from:s.Start]))
			from = s.Start
		}
		if s.Kind != profiles.SectionProfile {
			continue
		}
		if s.Again {
			twice = true
			continue
		}
		t.at[s.Name] = i
		t.names, t.lines[s.Name] = append(t.names, s.Name), s.Line
		t.own[s.Name] = map[string]foreignValue{}
		for _, e := range s.Entries {
			t.own[s.Name][strings.ToLower(string(e.Key))] = foreignValue{string(e.Value), e.Line}
		}
	}
	t.parts = append(t.parts, bytes.Clone(t.Config[from:]))
	if twice {
		t.parts, t.at = [][]byte{bytes.Clone(t.Config)}, nil
	}
	return nil
}

// part returns the text that contains the section of a profile, or to which it is appended.
func (t *translating) part(name string) *[]byte {
	if i, ok := t.at[name]; ok {
		return &t.parts[i]
	}
	return &t.parts[len(t.parts)-1]
}

func (t *translating) text(name, key string) string { return t.own[name][key].text }

// set writes a key, unless it already has the value.
func (t *translating) set(name, key, value string) {
	if t.err != nil || t.text(name, key) == value {
		return
	}
	part := t.part(name)
	dst, err := profiles.SetSection(*part, profiles.SectionProfile, name, []profiles.KeyValue{{Key: key, Value: value}})
	if err != nil {
		// What it replaces must not be removed.
		t.err = fault.New(fault.Config, "%s: %s for profile %q: %w", t.origin(t.lines[name]), key, name, err)
		return
	}
	if t.own[name] == nil {
		t.own[name] = map[string]foreignValue{}
	}
	*part = dst
	t.own[name][key] = foreignValue{text: value}
}

// remove removes keys.
func (t *translating) remove(name string, keys ...string) {
	if t.err != nil {
		return
	}
	part := t.part(name)
	*part, t.err = profiles.RemoveKeys(*part, profiles.SectionProfile, name, keys...)
	for _, key := range keys {
		delete(t.own[name], key)
	}
}

// origin returns a line of the config.
func (t *translating) origin(line int) profiles.Origin {
	return profiles.Origin{File: t.Files.Config, Line: line}
}

func (t *translating) changed(line int, format string, args ...any) {
	t.result.Changed = append(t.result.Changed, warning(t.origin(line), format, args...))
}

// left records why a key or a profile stays.
func (t *translating) left(name, key, format string, args ...any) {
	at := t.origin(max(t.own[name][key].line, t.lines[name]))
	t.result.Left = append(t.result.Left, warning(at, format, args...))
}

func warning(at profiles.Origin, format string, args ...any) profiles.Warning {
	return profiles.Warning{Origin: at, Text: fmt.Sprintf(format, args...)}
}

// leave records the first of these keys that a profile has, and that it has no translation.
func (t *translating) leave(name, why string, keys ...string) bool {
	for _, key := range keys {
		if t.text(name, key) != "" {
			t.left(name, key, "%s of profile %q %s", key, name, why)
			return true
		}
	}
	return false
}

// inherited are the keys that aws-vault takes from an included profile. From [default] it takes all keys;
// inheritedDefault are those that make sense there.
var (
	inherited = []string{keyRoleARN, keySourceProfile, keyExternalID, keyMFASerial, keyMFAProcess, keySessionName,
		keyDuration, keyRegion, keySSOSession, keySSOStartURL, "sso_region", "sso_account_id", "sso_role_name", keyWebIdentity}
	inheritedDefault = []string{keySourceProfile, keyMFASerial, keyMFAProcess, keySessionName, keyDuration, keyRegion}
)

// include copies to a profile what it inherits from its include_profile, and to a role what it inherits from
// [default]. It removes aws-vault's own keys.
func (t *translating) include(name string) {
	const include, parent = "include_profile", "parent_profile"
	key := include
	if t.text(name, include) == "" {
		key = parent
	}
	at := t.own[name][key]
	chain := []string{name}
	for next := at.text; next != ""; {
		if slices.Contains(chain, next) || t.own[next] == nil {
			t.left(name, key, "%s of profile %q leads to %q, which is missing or part of a loop", key, name, next)
			return
		}
		chain = append(chain, next)
		last := next
		if next = t.text(last, include); next == "" {
			next = t.text(last, parent)
		}
	}
	// A profile that is already translated refers to no other profile and has all inherited keys.
	for _, from := range chain[1:] {
		t.copy(name, from, inherited...)
	}
	if at.text != "" {
		t.remove(name, include, parent)
		t.changed(at.line, "profile %q now has the settings of %q itself, instead of its %s", name, at.text, key)
	}
	if t.text(name, keyRoleARN) == "" || name == "default" {
		return
	}
	if took := t.copy(name, "default", inheritedDefault...); len(took) > 0 {
		t.changed(t.lines[name], "profile %q now has its own %s, copied from [default]: AWS tools inherit nothing",
			name, strings.Join(took, ", "))
	}
	switch {
	case t.any([]string{name}, keySourceProfile, keyWebIdentity, "credential_source"):
	case slices.Contains(t.Keys, name) && slices.ContainsFunc(t.names, func(other string) bool {
		return other != name && t.text(other, keySourceProfile) == name
	}):
		t.left(name, keyRoleARN, "profile %q has a role and a key of the same name, and other profiles use it as their "+
			"source_profile: aws-vault assumes both roles; give the role another name", name)
	case slices.Contains(t.Keys, name):
		t.set(name, keySourceProfile, name)
		t.changed(t.lines[name], "profile %q now has source_profile = %s: aws-vault used the key of that name", name, name)
	default:
		t.left(name, keyRoleARN, "profile %q has a role_arn but no source_profile, and no key has its name", name)
	}
	if source := t.text(name, keySourceProfile); source != name && t.text(source, keyRoleARN) == "" {
		t.take(name, source, keyMFASerial, keyMFAProcess)
	}
}

// copy copies to a profile the keys of another profile that it lacks. A role that another role assumes needs no
// MFA device: in all these tools the code was given for the first role.
func (t *translating) copy(to, from string, keys ...string) (took []string) {
	for _, key := range keys {
		if source := t.text(to, keySourceProfile); key == keyMFASerial && source != to && t.text(source, keyRoleARN) != "" {
			continue
		}
		if value := t.text(from, key); value != "" && t.text(to, key) == "" && !(key == keySourceProfile && value == to) {
			t.set(to, key, value)
			took = append(took, key)
		}
	}
	return took
}

// inherit copies to a role what the tool inherits from the section of its source_profile, then from [default].
func (t *translating) inherit(name string, keys ...string) {
	if t.text(name, keyRoleARN) == "" {
		return
	}
	for _, from := range []string{t.text(name, keySourceProfile), "default"} {
		if from != name {
			t.take(name, from, keys...)
		}
	}
}

// take is copy, and records the change.
func (t *translating) take(name, from string, keys ...string) {
	if took := t.copy(name, from, keys...); len(took) > 0 {
		t.changed(t.lines[name], "profile %q now has its own %s, copied from %q: AWS tools inherit nothing",
			name, strings.Join(took, ", "), from)
	}
}

// duration writes duration_seconds from a key of the tool, in the profile itself or in the profiles from which it
// inherits the key.
func (t *translating) duration(name, key string, from ...string) {
	if t.text(name, keyRoleARN) == "" {
		return // roles inherit the key; here it has no effect
	}
	at, own := t.own[name][key]
	for _, other := range from {
		if at.text == "" && t.text(name, keyDuration) == "" {
			at = t.own[other][key]
		}
	}
	if at.text == "" {
		return
	}
	d, err := time.ParseDuration(at.text)
	if n, atoi := strconv.Atoi(at.text); atoi == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 15*time.Minute || d > 12*time.Hour || d%time.Second != 0 {
		t.left(name, key, "%s of profile %q is not a duration from 15m to 12h", key, name)
		return
	}
	if t.text(name, keyDuration) == "" {
		t.set(name, keyDuration, strconv.Itoa(int(d.Seconds())))
	}
	if own {
		t.remove(name, key)
	}
	t.changed(max(at.line, 1), "profile %q now has duration_seconds = %s for %s", name, t.text(name, keyDuration), key)
}

// jump turns a role with a jump_role_arn into a chain of two roles.
func (t *translating) jump(name string) {
	const key = "jump_role_arn"
	at, ok := t.own[name][key]
	if !ok {
		return
	}
	source := t.text(name, keySourceProfile)
	hop := name + "-jump"
	switch {
	case t.text(name, keyRoleARN) == "" || source == "":
		t.left(name, key, "%s of profile %q needs a role_arn and a source_profile", key, name)
		return
	case t.any([]string{source, "default"}, samlKeys...):
		t.left(name, key, "%s of profile %q is for SAML or web identity, which Broker does not support", key, name)
		return
	case t.own[hop] != nil:
		t.left(name, key, "%s of profile %q would create a profile %q, which already exists", key, name, hop)
		return
	case !isRole(at.text):
		t.left(name, key, "%s of profile %q is not the ARN of a role", key, name)
		return
	}
	t.set(hop, keyRoleARN, at.text)
	t.set(hop, keySourceProfile, source)
	t.set(hop, keyDuration, "3600") // the maximum for a role that assumes another role
	t.copy(hop, name, keyRegion, keyMFASerial)
	t.inherit(hop, keyRegion, keyMFASerial)
	t.set(name, keySourceProfile, hop)
	t.remove(name, key)
	t.changed(at.line, "profile %q now uses the new profile %q instead of its %s", name, hop, key)
}

func isRole(arn string) bool { return arn != "" && profiles.CheckRole(profiles.Role{ARN: arn}) == nil }

func (t *translating) any(names []string, keys ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return t.text(name, key) != "" })
	})
}

// helper replaces a credential_process that starts the other tool.
func (t *translating) helper(name string) {
	at, ok := t.own[name][keyCredentialProcess]
	if !ok {
		return
	}
	words := profiles.SplitCommand(at.text)
	if len(words) == 0 || !t.isTool(words[0]) {
		return
	}
	of := foreignProfile(words[1:])
	hasRole := t.text(name, keyRoleARN) != ""
	var why string
	switch {
	case of == "":
		why = "names no profile that can be read"
	case t.any([]string{name, of}, keyWebIdentity, "web_identity_token_process"):
		why = "is for web identity, which needs no helper"
	case t.any([]string{name, of}, grantedKeys...):
		return // the keys have been listed
	case t.any([]string{name, of}, keySSOAccountID) && (hasRole || of != name && t.any([]string{name}, ssoKeys...)):
		why = fmt.Sprintf("is for %q, but the profile has its own role or permission set", of)
	case t.any([]string{of}, keySSOAccountID):
		t.copy(name, of, slices.Concat(ssoKeys, []string{keyRegion})...)
		t.remove(name, keyCredentialProcess)
		t.changed(at.line, "profile %q now has the permission set of %q, without the credential_process of %s", name, of, t.Tool)
		return
	case !slices.Contains(t.Keys, t.root(of)):
		// The tool still works for it; Broker would not.
		why = fmt.Sprintf("is for %q, but no source is called %q", of, t.root(of))
	case hasRole && of != name:
		why = fmt.Sprintf("is for %q, but the profile has its own role_arn", of)
	case hasRole:
		t.remove(name, keyCredentialProcess)
		t.changed(at.line, "profile %q now uses its role_arn, without the credential_process of %s", name, t.Tool)
		return
	case t.text(of, keyRoleARN) != "":
		t.copy(name, of, keyRoleARN, keySourceProfile, keyExternalID, keyMFASerial, keyMFAProcess, keySessionName,
			keyDuration, keyRegion)
		t.remove(name, keyCredentialProcess)
		t.changed(at.line, "profile %q now has the role of %q, instead of a credential_process of %s", name, of, t.Tool)
		return
	default:
		command, err := profiles.Command(t.Credproc, of)
		if err != nil {
			why = "cannot be replaced: " + err.Error()
			break
		}
		t.set(name, keyCredentialProcess, command)
		t.changed(at.line, "profile %q now asks Broker for %q, instead of %s", name, of, t.Tool)
		return
	}
	t.left(name, keyCredentialProcess, "credential_process of profile %q %s", name, why)
}

// maxHops limits the profiles from a name to its source, as in package profiles.
const maxHops = 10

// root returns the profile at the beginning of a profile's chain of roles.
func (t *translating) root(name string) string {
	for range maxHops {
		source := t.text(name, keySourceProfile)
		if t.text(name, keyRoleARN) == "" || source == "" || source == name {
			break
		}
		name = source
	}
	return name
}

// isTool reports whether a program is the tool.
func (t *translating) isTool(program string) bool {
	base := strings.TrimSuffix(path.Base(strings.ReplaceAll(program, `\`, "/")), ".exe")
	return base == t.Tool.program()
}

// helperFlags are the flags of aws-vault and Granted that take the next word, from cli/exec.go, cli/export.go and
// cli/global.go of aws-vault and pkg/granted/credential_process.go.
var helperFlags = []string{"--duration", "-d", "--region", "--mfa-token", "-t", "--prompt", "--backend", "--keychain",
	"--secret-service-collection", "--pass-dir", "--pass-cmd", "--pass-prefix", "--file-dir", "--format", "--aws-config-file", "--url", "--window"}

// foreignProfile returns the profile that a helper command of aws-vault or Granted names: `exec NAME --json`,
// `export --format=json NAME`, `credential-process --profile NAME`. It returns "" if that is not clear.
func foreignProfile(words []string) string {
	var rest []string
	profile := ""
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "--profile" && i+1 < len(words):
			i++
			profile = words[i]
		case strings.HasPrefix(word, "--profile="):
			profile = strings.TrimPrefix(word, "--profile=")
		case slices.Contains(helperFlags, word):
			i++
		case strings.HasPrefix(word, "-"):
		default:
			rest = append(rest, word)
		}
	}
	switch {
	case len(rest) == 1 && rest[0] == "credential-process":
		return profile
	case len(rest) == 2 && (rest[0] == "exec" || rest[0] == "export"):
		return rest[1]
	}
	return ""
}

// longTerm writes a profile for the role that aws-mfa assumes for a name.
func (t *translating) longTerm() {
	sections, err := profiles.Sections(t.Files.Credentials, t.Credentials, profiles.SectionCredentials)
	if err != nil {
		t.err = err
		return
	}
	for _, s := range sections {
		name, ok := longTermName(s.Name)
		if !ok {
			continue
		}
		var role, device foreignValue
		for _, e := range s.Entries {
			switch strings.ToLower(string(e.Key)) {
			case keyAssumeRole:
				role = foreignValue{string(e.Value), e.Line}
			case keyDevice:
				device = foreignValue{string(e.Value), e.Line}
			}
		}
		origin := profiles.Origin{File: t.Files.Credentials, Line: role.line}
		left := func(format string, args ...any) {
			t.result.Left = append(t.result.Left, warning(origin, format, args...))
		}
		switch {
		case role.text == "":
			continue
		case !isRole(role.text):
			left("assume_role of %q is not the ARN of a role", name)
			continue
		case t.text(name, keyRoleARN) == role.text:
			continue
		case t.text(name, keyRoleARN) != "":
			left("assume_role of %q differs from its role_arn in %s", name, t.Files.Config)
			continue
		}
		source := name
		if !slices.Contains(t.Keys, name) { // one key under several names is one source, to which the other names lead
			source = name + longTermSuffix
		}
		t.set(name, keyRoleARN, role.text)
		t.set(name, keySourceProfile, source)
		if device.text != "" && profiles.CheckSource(name, device.text) == nil {
			t.set(name, keyMFASerial, device.text)
		}
		t.result.Changed = append(t.result.Changed,
			warning(origin, "profile %q now has the role that aws-mfa assumed for it", name))
	}
}
