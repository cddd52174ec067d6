package profiles

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"broker/internal/fault"
)

// The keys that the broker knows. AWS's own:
// https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
const (
	keyRoleARN           = "role_arn"
	keySourceProfile     = "source_profile"
	keyCredentialSource  = "credential_source"
	keyMFASerial         = "mfa_serial"
	keyExternalID        = "external_id"
	keySessionName       = "role_session_name"
	keyDuration          = "duration_seconds"
	keyRegion            = "region"
	keySTSRegional       = "sts_regional_endpoints"
	keyEndpointURL       = "endpoint_url"
	keyIgnoreEndpoints   = "ignore_configured_endpoint_urls"
	keyServices          = "services"
	keyCABundle          = "ca_bundle"
	keyFIPS              = "use_fips_endpoint"
	keyCredentialProcess = "credential_process"
	keyWebIdentity       = "web_identity_token_file"
	keySSOSession        = "sso_session"
	keySSOStartURL       = "sso_start_url"
	keyLoginSession      = "login_session"
	keyAccessKeyID       = "aws_access_key_id"
	keySecretKey         = "aws_secret_access_key"
	keySessionToken      = "aws_session_token"
	keySTS               = "sts"              // within [services NAME]
	keySTSEndpointURL    = "sts.endpoint_url" // endpoint_url below it
	keyOutput            = "output"           // without a meaning for Broker

	// the broker's own
	keyConfirm         = "confirm"
	keyPublish         = "publish"
	keySourceKeyID     = "access_key_id"
	keySession         = "session"
	keySTSCompatible   = "sts_compatible"
	keyMFASeed         = "mfa_seed"
	keyMFAProcess      = "mfa_process" // also of role profiles in ~/.aws/config, as aws-vault has it
	keyMFA             = "mfa"
	keyKeyringBackend  = "keyring_backend"
	keySessionDuration = "session_duration"
	keySTSEndpoint     = "sts_endpoint"
	keyLockAfter       = "lock_after"
	keyAudit           = "audit"
	keyLockOn          = "lock_on"
	keyMFAPrompt       = "mfa_prompt"
	keyCatalog         = "catalog"
	keyCatalogPath     = "catalog_path"
	keyBrowser         = "browser"
	keyTrustSum        = "sha256"   // within [trust NAME]
	keyTrustListener   = "listener" // within [trust NAME]
	keyHTTPSProxy      = "https_proxy"
	keyNoProxy         = "no_proxy"
	keyPath            = "path"
	keyRegistry        = "registry"
	keyGnuPGHome       = "gnupg_home"
	keyPasswordStore   = "password_store_dir"
)

// awsKeys are the keys that are kept of the AWS files; the rest of a profile does
// not matter here. A secret is remembered as being there, without its text.
var awsKeys = set(keyRoleARN, keySourceProfile, keyCredentialSource, keyMFASerial, keyExternalID, keySessionName, keyDuration,
	keyRegion, keySTSRegional, keyEndpointURL, keyIgnoreEndpoints, keyServices, keyCABundle, keyFIPS, keyCredentialProcess,
	keyWebIdentity, keySSOSession, keySSOStartURL, keyLoginSession, keyAccessKeyID, keySecretKey, keySessionToken, keySTS, keyMFAProcess)

// registryKeys are the keys that a section of the registry may have. Keys of
// profiles that the broker does not serve are among them: they are refused by
// name when the profile is asked for, which says more than "unknown".
var registryKeys = map[string]map[string]string{
	SectionProfile:  merged(awsKeys, set(keyConfirm, keyMFA, keyOutput, keyPublish, keyBrowser)),
	SectionServices: set(keySTS),
	SectionAlias:    nil,
	SectionSource: set(keySourceKeyID, keyMFASerial, keyMFASeed, keyMFAProcess, keyRegion, keySTSRegional, keyEndpointURL, keyCABundle, keyFIPS,
		keyConfirm, keyBrowser, keySession, keySTSCompatible),
	SectionSettings: settingNames(),
	SectionTrust:    set(keyTrustSum, keyTrustListener),
}

// set maps each key to itself, so that a look-up also gives one shared string.
func set(keys ...string) map[string]string {
	m := make(map[string]string, len(keys))
	for _, k := range keys {
		m[k] = k
	}
	return m
}

func merged(a, b map[string]string) map[string]string {
	m := make(map[string]string, len(a)+len(b))
	for _, part := range []map[string]string{a, b} {
		for k, v := range part {
			m[k] = v
		}
	}
	return m
}

// A table is what one file says, without the bytes of the file.
type table struct {
	blocks    map[blockID]*block
	refused   *Warning         // why botocore takes none of the file; nil if it takes it
	others    [dialects]*table // as others read the file, where they do not read the same
	inherited []setting        // what each section has that does not say otherwise
	warnings  []Warning
}

type blockID struct{ kind, name string }

// A block is one section, or several of the same name in one file.
type block struct {
	name     string
	header   string
	origin   Origin
	from     *provenance
	shared   bool // it is in the credentials file
	ours     bool // it is a session that `broker publish` keeps there
	settings []setting
}

type setting struct {
	key, value string
	line       int
	commented  bool
	empty      bool // neither a value nor keys below it
	nested     []setting
}

// find returns the setting of a key, or nil. A nil block has none.
func (b *block) find(key string) *setting {
	if b == nil {
		return nil
	}
	for i := range b.settings {
		if b.settings[i].key == key {
			return &b.settings[i]
		}
	}
	return nil
}

func (b *block) put(s setting) {
	if old := b.find(s.key); old != nil {
		*old = s
		return
	}
	b.settings = append(b.settings, s)
}

// Warning is something about a file that the user should know and that stops
// nobody.
type Warning struct {
	Origin Origin
	Text   string
}

// String is "file:line: text".
func (w Warning) String() string { return w.Origin.String() + ": " + w.Text }

// fileKind says which of the three files a path is.
type fileKind int

const (
	configFile fileKind = iota
	credentialsFile
	registryFile
)

// newTable reads the content of one file. Nothing of the table points into src,
// which the caller may wipe. In the registry a line that cannot be read is an
// error, since the broker wrote it; in the AWS files it is a warning.
func newTable(path string, src []byte, file fileKind, from *provenance) (*table, error) {
	doc, err := scanFile(path, src, file == credentialsFile)
	if err != nil {
		return nil, err
	}
	t, err := tableOf(path, doc, file, from, botocore)
	if err != nil || file == registryFile || !doc.disputed() {
		return t, err
	}
	for d := botocore + 1; d < dialects; d++ {
		doc, _ := scanAs(src, file == credentialsFile, d) // it is text
		if t.others[d], err = tableOf(path, doc, file, from, d); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func tableOf(path string, doc *document, file fileKind, from *provenance, as dialect) (*table, error) {
	if file == registryFile && len(doc.problems) > 0 {
		bad := doc.problems[0]
		bad.text, _, _ = strings.Cut(bad.text, "; ") // what is ignored in an AWS file
		return nil, fault.Of(bad.in(path)).WithHint("vi +%d %s", bad.line, path)
	}
	t := &table{blocks: make(map[blockID]*block, len(doc.sections))}
	if as == botocore && doc.refused != nil && file != registryFile {
		t.refused = &Warning{Origin{path, doc.refused.line}, doc.refused.text}
	}
	for _, p := range doc.problems {
		t.warn(path, p.line, "this line %s", p.text)
	}
	for i := range doc.sections {
		if err := t.add(path, &doc.sections[i], file, as); err != nil {
			return nil, err
		}
	}
	inherited := t.blocks[blockID{kind: sectionInherited}]
	delete(t.blocks, blockID{kind: sectionInherited})
	for _, b := range t.blocks {
		b.from = from
		if file == registryFile {
			continue
		}
		if inherited != nil {
			for _, s := range inherited.settings {
				if b.find(s.key) == nil {
					b.settings = append(b.settings, s)
				}
			}
		}
		// the SDKs take "region =" for no region
		b.settings = slices.DeleteFunc(b.settings, func(s setting) bool { return s.empty })
	}
	if inherited != nil {
		t.inherited = inherited.settings
	}
	return t, nil
}

func (t *table) warn(path string, line int, format string, args ...any) {
	if len(t.warnings) < maxProblems {
		t.warnings = append(t.warnings, Warning{Origin{path, line}, fmt.Sprintf(format, args...)})
	}
}

// awsKinds are the kinds of sections that count in the AWS files.
var awsKinds = []string{SectionProfile, SectionCredentials, SectionServices, sectionInherited}

// unknown is the error of a key or section that the registry does not have. It may be a mistyped one that says which
// role a profile has, or when to lock, so it is not ignored.
func unknown(path string, line int, what, name string, known iter.Seq[string]) error {
	f := fault.New(fault.Config, "%s: unknown %s %q", Origin{path, line}, what, name).WithHint("vi +%d %s", line, path)
	if near := Nearest(name, known, 1); len(near) > 0 {
		f.Message += "; did you mean " + near[0] + "?"
	}
	return f
}

func (t *table) add(path string, sec *section, file fileKind, as dialect) error {
	known, isKnown := registryKeys[sec.kind]
	switch {
	case sec.kind == "": // reported by scan
		return nil
	case file == registryFile && !isKnown:
		return unknown(path, sec.line, "section", sec.kind, maps.Keys(registryKeys))
	case file != registryFile && !slices.Contains(awsKinds, sec.kind):
		return nil
	}
	id := blockID{sec.kind, sec.name}
	if sec.loose && file != registryFile {
		t.warn(path, sec.line, "the AWS CLI takes the header [%s] for no profile; [profile %q] is one", sec.header, sec.name)
		id.kind = looseKind(sec.kind)
	}
	b := t.blocks[id]
	switch {
	case b != nil && b.header != sec.header && as == js2: // "Cannot redefine property"
		t.refused = &Warning{Origin{path, sec.line}, "names a profile a second time"}
	case b != nil && b.header != sec.header && as != botocore && b.header != "default":
		if sec.header == "default" { // the one with the prefix wins
			return nil
		}
	case b != nil && b.header != sec.header:
		b = nil // for botocore the last of [default] and [profile default] is all there is
	case b != nil && sec.kind != SectionSettings && sec.kind != SectionAlias:
		t.warn(path, sec.line, "section %q stands twice, first at line %d: the AWS CLI refuses such a file", sec.name, b.origin.Line)
	}
	if b == nil {
		b = &block{name: sec.name, header: sec.header, origin: Origin{path, sec.line}, shared: file == credentialsFile,
			ours: sec.isSession()}
		t.blocks[id] = b
	}
	b.settings = grow(b.settings, len(sec.entries))
	for i := range sec.entries {
		e := &sec.entries[i]
		switch key := intern(known, e.key); {
		case file != registryFile:
			if key = intern(awsKeys, e.key); key == "" {
				continue
			}
			b.put(newSetting(key, e))
		case key != "":
			b.put(newSetting(key, e))
		case sec.kind == SectionAlias: // any key; readAliases lets the last one win
			b.settings = append(b.settings, newSetting(string(e.key), e))
		case sec.kind != SectionServices: // which has a key for each service of AWS
			return unknown(path, e.line, "key", string(e.key), maps.Values(known))
		}
	}
	return nil
}

// looseKind is the kind of blocks that botocore takes for no profile, and other tools for one.
func looseKind(kind string) string { return "loose " + kind }

func grow(s []setting, n int) []setting {
	if s == nil {
		return make([]setting, 0, n)
	}
	return s
}

// intern returns the known key in its own spelling, or "".
func intern(known map[string]string, key []byte) string {
	if k, ok := known[string(key)]; ok {
		return k
	}
	return known[string(bytes.ToLower(key))]
}

func newSetting(key string, e *entry) setting {
	s := setting{key: key, line: e.line, commented: e.commented, empty: len(e.value) == 0 && len(e.nested) == 0}
	if key != keySecretKey && key != keySessionToken {
		s.value = string(e.value)
	}
	if key == keySTS {
		for i := range e.nested {
			n := &e.nested[i]
			if intern(awsKeys, n.key) == keyEndpointURL {
				s.nested = append(s.nested, setting{key: keyEndpointURL, value: string(n.value), line: n.line})
			}
		}
	}
	return s
}
