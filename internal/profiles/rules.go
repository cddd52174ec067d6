package profiles

import (
	"fmt"
	"slices"
)

// A Place is where a setting is written.
type Place int

// The places. A file counts as the registry only if it is the daemon's own. An AWS file is InDefault if it is the
// one below the home directory that AWS tools read when no variable names another, and only its owner and root can
// change it. Any other AWS file is InOther: one that AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE names, and one
// that other users can write.
const (
	InRegistry  Place = iota
	InDefault         // a default AWS file
	InOther           // any other AWS file
	FromShell         // the environment of a program that asks or starts the daemon
	FromUnit          // the environment of the daemon's service unit
	countPlaces int   = iota
)

// A Decision is what happens to a setting in a place.
type Decision int

// The decisions, from the most lenient to the strictest.
const (
	Unread      Decision = iota // nothing reads it there
	Taken                       // it takes effect
	OnceTrusted                 // it takes effect for a profile once the user confirmed `broker profiles trust`
	Ignored                     // it has no effect, and a warning says so
	Rejected                    // the profile cannot be used, and the error gives file and line
)

// A Rule is what happens to one setting in each place.
type Rule struct {
	Name string // name of a key or a variable
	In   [countPlaces]Decision
}

// Rules is the only table of who may redirect what: each setting that changes where a request is sent, what is
// run, or what is trusted. docs/trust.md explains it to users; a test compares the two.
var Rules = []Rule{
	// Where signed calls go.
	{keyEndpointURL, inFiles(Taken, OnceTrusted, Rejected)},
	{keyServices, inFiles(Taken, OnceTrusted, Rejected)},
	{keySTSEndpointURL, inFiles(Taken, OnceTrusted, Rejected)},
	{keySTSEndpoint, inFiles(Taken, Unread, Unread)},
	{keySTSCompatible, inFiles(Taken, Unread, Unread)},
	{keyHTTPSProxy, inFiles(Taken, Unread, Unread)},
	{keyNoProxy, inFiles(Taken, Unread, Unread)},
	// Which certificates are trusted.
	{keyCABundle, inFiles(Taken, Taken, Rejected)},
	// Which programs run.
	{keyMFAProcess, inFiles(Taken, Ignored, Ignored)},
	{keyBrowser, inFiles(Taken, Unread, Unread)},
	{keyPath, inFiles(Taken, Unread, Unread)},
	{keyRegistry, inFiles(Taken, Unread, Unread)},
	{keyCatalog, inFiles(Taken, Unread, Unread)},
	{keyCatalogPath, inFiles(Taken, Unread, Unread)},
	// Which keyring holds the keys, and where sessions are written.
	{keyKeyringBackend, inFiles(Taken, Unread, Unread)},
	{keyGnuPGHome, inFiles(Taken, Unread, Unread)},
	{keyPasswordStore, inFiles(Taken, Unread, Unread)},
	{keyPublish, inFiles(Taken, Unread, Unread)},
	// Which role in which account is assumed, and from which source.
	{keyRoleARN, inFiles(Taken, Taken, OnceTrusted)},
	{keySourceProfile, inFiles(Taken, Taken, OnceTrusted)},
	{keyExternalID, inFiles(Taken, Taken, OnceTrusted)},
	{keyMFASerial, inFiles(Taken, Taken, OnceTrusted)},
	{keySessionName, inFiles(Taken, Taken, OnceTrusted)},
	{keyDuration, inFiles(Taken, Taken, OnceTrusted)},
	// What a role's session may do, and whom it names.
	{keyReadOnly, inFiles(Taken, Taken, Taken)},
	{keyAgents, inFiles(Taken, Taken, Taken)},
	{keySourceIdentity, inFiles(Taken, Unread, Unread)},
	{keySessionTags, inFiles(Taken, Unread, Unread)},
	{keyTransitiveTags, inFiles(Taken, Unread, Unread)},
	{keyOptionalTags, inFiles(Taken, Unread, Unread)},
	// Which account and permission set, whose console login, and which token.
	{keySSOSession, inFiles(Taken, Taken, OnceTrusted)},
	{keySSOStartURL, inFiles(Taken, Taken, OnceTrusted)},
	{keySSORegion, inFiles(Taken, Taken, OnceTrusted)},
	{keySSOScopes, inFiles(Taken, Taken, OnceTrusted)},
	{keySSOAccountID, inFiles(Taken, Taken, OnceTrusted)},
	{keySSORoleName, inFiles(Taken, Taken, OnceTrusted)},
	{keyLoginSession, inFiles(Taken, Taken, OnceTrusted)},
	{keyWebIdentity, inFiles(Taken, Taken, OnceTrusted)},
	// A command of our helper makes one name stand for another profile. Broker runs another program with the
	// daemon's rights, so any program that can write to the file could start it.
	{keyCredentialProcess, inFiles(Taken, Taken, OnceTrusted)},
	{keyOtherProgram, inFiles(Taken, OnceTrusted, Rejected)},

	// Which files are read. A daemon reads only its own registry, whatever a client names. A daemon whose
	// registry, state or keyring directory is not the default one has its own socket.
	{"AWS_CONFIG_FILE", environment(Taken, Taken)},
	{"AWS_SHARED_CREDENTIALS_FILE", environment(Taken, Taken)},
	{"BROKER_CONFIG", environment(Taken, Taken)},
	{"BROKER_KEYRING_DIR", environment(Taken, Taken)},
	{"BROKER_KEYRING_PASSPHRASE_FILE", environment(Taken, Taken)},
	{"BROKER_STATE_DIR", environment(Taken, Taken)},
	{"BROKER_RUNTIME_DIR", environment(Taken, Taken)},
	{"BROKER_SOCKET", environment(Taken, Taken)},
	{"BROKER_DOOR", environment(Taken, Unread)}, // only a client reads it, and then asks nobody but the door
	{"HOME", environment(Taken, Taken)},
	{"XDG_CONFIG_HOME", environment(Taken, Taken)}, // for Broker's own files; the daemon's child processes see only the unit's value
	{"XDG_DATA_HOME", environment(Taken, Taken)},
	{"XDG_STATE_HOME", environment(Taken, Taken)},
	{"XDG_RUNTIME_DIR", environment(Taken, Taken)},
	{"PASSWORD_STORE_DIR", environment(Ignored, Taken)},
	{"GNUPGHOME", environment(Ignored, Taken)},
	// How calls travel, and which certificates they trust.
	{"HTTPS_PROXY", environment(Ignored, Taken)},
	{"NO_PROXY", environment(Ignored, Taken)},
	{"AWS_CA_BUNDLE", environment(Ignored, Taken)},
	{"SSL_CERT_FILE", environment(Ignored, Taken)},
	{"SSL_CERT_DIR", environment(Ignored, Taken)},
	// Which programs run, and which window or keyring is asked. Broker builds PATH itself. Only a command reads
	// BROWSER; console.FromShell accepts only values that no file in a repository can provide.
	{"PATH", environment(Unread, Unread)},
	{"BROWSER", environment(Taken, Unread)},
	{"DBUS_SESSION_BUS_ADDRESS", environment(Taken, Taken)},
	{"DBUS_SYSTEM_BUS_ADDRESS", environment(Ignored, Taken)},
	{"DISPLAY", environment(Taken, Taken)},
	{"WAYLAND_DISPLAY", environment(Taken, Taken)},
	{"XAUTHORITY", environment(Taken, Taken)},
	{"LD_PRELOAD", environment(Ignored, Ignored)},
	{"LD_LIBRARY_PATH", environment(Ignored, Ignored)},
	{"LD_AUDIT", environment(Ignored, Ignored)},
	{"DYLD_INSERT_LIBRARIES", environment(Ignored, Ignored)},
	{"GODEBUG", environment(Ignored, Ignored)},
	{"SSLKEYLOGFILE", environment(Ignored, Ignored)},
	// The sockets that a service manager passes.
	{"LISTEN_FDS", environment(Unread, Taken)},
	{"LISTEN_PID", environment(Unread, Taken)},
}

func inFiles(registry, standard, other Decision) [countPlaces]Decision {
	return [countPlaces]Decision{InRegistry: registry, InDefault: standard, InOther: other}
}

func environment(shell, unit Decision) [countPlaces]Decision {
	return [countPlaces]Decision{FromShell: shell, FromUnit: unit}
}

// harmless are the keys that redirect nothing. They choose between AWS's own hosts, are descriptive, or make a
// profile one that Broker does not serve.
var harmless = []string{keyRegion, keySTSRegional, keyFIPS, keyIgnoreEndpoints, keySTS, keyOutput,
	keyCredentialSource, keyAccessKeyID, keySecretKey, keySessionToken, keySourceKeyID, keySession, keyMFASeed,
	keyConfirm, keyProduction,
	keyGuardCommands,
	keyMFA,
	keySessionDuration, keyLockAfter, keyLockOn, keyAudit, keyMFAPrompt, keyNotices, keyMaxAge, keyKeyCreated,
	keyTrustSum, keyTrustListener,
	keyProfiles, keyAccounts}

// ruleOf returns the rule of a key or variable, or nil.
func ruleOf(name string) *Rule {
	for i := range Rules {
		if Rules[i].Name == name {
			return &Rules[i]
		}
	}
	return nil
}

// Decide returns what happens to a key in a place. All code must ask Decide and decide nothing itself. A key
// without a rule is a defect.
func Decide(key string, place Place) Decision {
	if rule := ruleOf(key); rule != nil {
		return rule.In[place]
	}
	if slices.Contains(harmless, key) {
		return Taken
	}
	panic(fmt.Sprintf("the key %q has no rule", key))
}
