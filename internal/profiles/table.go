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

// The keys that Broker knows. AWS's own keys:
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
	keySSORegion         = "sso_region"
	keySSOScopes         = "sso_registration_scopes"
	keySSOAccountID      = "sso_account_id"
	keySSORoleName       = "sso_role_name"
	keyLoginSession      = "login_session"
	keyAccessKeyID       = "aws_access_key_id"
	keySecretKey         = "aws_secret_access_key"
	keySessionToken      = "aws_session_token"
	keySTS               = "sts"              // in [services NAME]
	keySTSEndpointURL    = "sts.endpoint_url" // endpoint_url in the nested block of sts
	keyOutput            = "output"           // has no meaning for Broker
	// keyOtherProgram stands for a credential_process that does not start credproc.
	keyOtherProgram = "credential_process of another program"

	// Broker's own keys.
	keyConfirm         = "confirm"
	keyProduction      = "production"
	keyGuardCommands   = "guard_commands"
	keyPublish         = "publish"
	keySourceIdentity  = "source_identity"
	keySessionTags     = "session_tags"
	keyTransitiveTags  = "transitive_tags"
	keyOptionalTags    = "optional_tags"
	keyReadOnly        = "read_only"
	keyAgents          = "agents"
	keySourceKeyID     = "access_key_id"
	keyKeyCreated      = "key_created"
	keySession         = "session"
	keySTSCompatible   = "sts_compatible"
	keyMFASeed         = "mfa_seed"
	keyMFAProcess      = "mfa_process" // also in role profiles of ~/.aws/config, as in aws-vault
	keyMFA             = "mfa"
	keyKeyringBackend  = "keyring_backend"
	keySessionDuration = "session_duration"
	keySTSEndpoint     = "sts_endpoint"
	keyLockAfter       = "lock_after"
	keyAudit           = "audit"
	keyLockOn          = "lock_on"
	keyNotices         = "notices"
	keyMaxAge          = "max_age"
	keyMFAPrompt       = "mfa_prompt"
	keyCatalog         = "catalog"
	keyCatalogPath     = "catalog_path"
	keyBrowser         = "browser"
	keyTrustSum        = "sha256"   // in [trust NAME] and [directory PATH]
	keyTrustListener   = "listener" // in [trust NAME]
	keyProfiles        = "profiles" // in a DirectoryFile
	keyAccounts        = "accounts" // in a DirectoryFile
	keyHTTPSProxy      = "https_proxy"
	keyNoProxy         = "no_proxy"
	keyPath            = "path"
	keyRegistry        = "registry"
	keyGnuPGHome       = "gnupg_home"
	keyPasswordStore   = "password_store_dir"
)

// awsKeys are the keys that are kept from the AWS files; other keys are not needed. For a secret only its presence
// is kept, not its text.
var awsKeys = []string{
	keyRoleARN,
	keySourceProfile,
	keyCredentialSource,
	keyMFASerial,
	keyExternalID,
	keySessionName,
	keyDuration,
	keyRegion,
	keySTSRegional,
	keyEndpointURL,
	keyIgnoreEndpoints,
	keyServices,
	keyCABundle,
	keyFIPS,
	keyCredentialProcess,
	keyWebIdentity,
	keySSOSession,
	keySSOStartURL,
	keySSORegion,
	keySSOScopes,
	keySSOAccountID,
	keySSORoleName,
	keyLoginSession,
	keyAccessKeyID,
	keySecretKey,
	keySessionToken,
	keySTS,
	keyMFAProcess,
	keyConfirm,
	keyProduction,
	keyReadOnly,
	keyAgents,
}

// registryKeys are the keys that each kind of section in the registry may have. They include keys of profiles that
// Broker does not serve: Broker refuses such a profile by the key's name when it is used, which is clearer than
// "unknown key".
var registryKeys = map[string][]string{
	SectionProfile:  slices.Concat(awsKeys, []string{keyMFA, keyOutput, keyPublish, keyBrowser}, roleOnly),
	SectionServices: {keySTS},
	SectionAlias:    nil,
	SectionSource: {
		keySourceKeyID,
		keyKeyCreated,
		keyMFASerial,
		keyMFASeed,
		keyMFAProcess,
		keyRegion,
		keySTSRegional,
		keyEndpointURL,
		keyCABundle,
		keyFIPS,
		keyConfirm,
		keyProduction,
		keyAgents,
		keyBrowser,
		keySession,
		keySTSCompatible,
		keyLoginSession,
	},
	SectionSSO:       {keySSOStartURL, keySSORegion, keySSOScopes, keyConfirm, keyProduction, keyAgents, keyBrowser},
	SectionSettings:  SettingKeys(),
	SectionTrust:     {keyTrustSum, keyTrustListener},
	SectionDirectory: {keyTrustSum},
}

// A table is what one file says, without the bytes of the file.
type table struct {
	blocks    map[blockID]*block
	refused   *Warning         // why botocore refuses the whole file; nil if it accepts it
	others    [dialects]*table // the file as other dialects read it, if they read it differently
	inherited []setting        // settings that each section inherits unless it has its own
	warnings  []Warning
}

type blockID struct{ kind, name string }

// A block is one section, or several sections of the same name in one file.
type block struct {
	name     string
	header   string
	origin   Origin
	from     *provenance
	shared   bool // it is in the credentials file
	ours     bool // it is a session of `broker publish`
	settings []setting
	unread   []setting // the keys of registryOnly in an AWS file, without their values
}

type setting struct {
	key, value string
	line       int
	commented  bool
	empty      bool // it has neither a value nor nested keys
	nested     []setting
}

// find returns the setting of a key, or nil. A nil block has no settings.
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

// Warning is a problem of a file that the user should know about and that stops nothing.
type Warning struct {
	Origin Origin
	Text   string
}

// String is "file:line: text".
func (w Warning) String() string { return w.Origin.String() + ": " + w.Text }

// fileKind is which of the three files a path is.
type fileKind int

const (
	configFile fileKind = iota
	credentialsFile
	registryFile
)

// newTable reads the content of one file. The table holds no reference to src, so the caller may wipe it. A line
// that cannot be read is an error in the registry, since Broker wrote it; in the AWS files it is a warning.
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
		doc, _ := scanAs(src, file == credentialsFile, d) // the first scan has checked that the file is text
		if t.others[d], err = tableOf(path, doc, file, from, d); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func tableOf(path string, doc *document, file fileKind, from *provenance, as dialect) (*table, error) {
	if file == registryFile && len(doc.problems) > 0 {
		bad := doc.problems[0]
		bad.text, _, _ = strings.Cut(bad.text, "; ") // drop the part that describes what is ignored in an AWS file
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
		// For the SDKs, "region =" means no region.
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

// awsKinds are the kinds of sections that have a meaning in the AWS files.
var awsKinds = []string{SectionProfile, SectionCredentials, SectionServices, SectionSSO, sectionInherited}

// unknown returns the error for a key or section that the registry must not have. It may be a mistyped one that
// says which role a profile has, or when to lock, so it is not ignored.
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
	switch {
	case sec.kind == SectionSSO && sec.name == "" && file == registryFile:
		return fault.New(fault.Config, "%s: this sso-session has no name", Origin{path, sec.line}).
			WithHint("vi +%d %s", sec.line, path)
	case sec.kind == SectionSSO && sec.loose && file != registryFile:
		t.warn(path, sec.line, "the AWS CLI does not read the header [%s] as a session; write [sso-session NAME]", sec.header)
		id.kind = looseKind(sec.kind)
	case sec.loose && file != registryFile:
		t.warn(path, sec.line, "the AWS CLI does not read the header [%s] as a profile; write [profile %q]", sec.header, sec.name)
		id.kind = looseKind(sec.kind)
	}
	b := t.blocks[id]
	switch {
	case b != nil && b.header != sec.header && as == js2: // "Cannot redefine property"
		t.refused = &Warning{Origin{path, sec.line}, "names a profile a second time"}
	case b != nil && b.header != sec.header && as != botocore && b.header != "default":
		if sec.header == "default" { // the header with the prefix wins
			return nil
		}
	case b != nil && b.header != sec.header:
		b = nil // botocore uses only the last of [default] and [profile default]
	case b != nil && sec.kind != SectionSettings && sec.kind != SectionAlias:
		t.warn(path, sec.line, "section %q is there twice, first at line %d: the AWS CLI refuses such a file", sec.name, b.origin.Line)
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
			if key = intern(awsKeys, e.key); key != "" {
				b.put(newSetting(key, e))
			} else if key = intern(registryOnly, e.key); key != "" && len(b.unread) < maxProblems {
				b.unread = append(b.unread, setting{key: key, line: e.line})
			}
		case key != "":
			b.put(newSetting(key, e))
		case sec.kind == SectionAlias: // any key is allowed; in readAliases the last one wins
			b.settings = append(b.settings, newSetting(string(e.key), e))
		case sec.kind != SectionServices: // a services section has one key per AWS service
			return unknown(path, e.line, "key", string(e.key), slices.Values(known))
		}
	}
	return nil
}

// looseKind returns the kind of blocks that other tools, but not botocore, read as a profile.
func looseKind(kind string) string { return "loose " + kind }

func grow(s []setting, n int) []setting {
	if s == nil {
		return make([]setting, 0, n)
	}
	return s
}

// intern returns the shared string for a known key in its canonical spelling, or "".
func intern(known []string, key []byte) string {
	i := slices.Index(known, string(key))
	if i < 0 {
		i = slices.Index(known, string(bytes.ToLower(key)))
	}
	if i < 0 {
		return ""
	}
	return known[i]
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
