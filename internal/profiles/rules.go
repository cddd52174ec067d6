package profiles

import "fmt"

// A Place is where a setting can stand.
type Place int

// The places. A file is the registry only if it is the daemon's own. An AWS file is Default if it is the one below the
// home directory that AWS tools read when no variable moves it, and nobody but its owner and root can change it; any
// other is Other: one that AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE names, and one that others may write.
const (
	InRegistry  Place = iota
	InDefault         // a default AWS file
	InOther           // any other AWS file
	FromShell         // the environment of a program that asks the daemon, or that starts it
	FromUnit          // the environment of the daemon's service unit
	countPlaces int   = iota
)

// A Decision is what becomes of a setting in a place.
type Decision int

// The decisions, from the weakest to the strictest.
const (
	Unread      Decision = iota // nothing looks for it there
	Taken                       // it counts
	OnceTrusted                 // it counts for a profile once `broker profiles trust` was answered with yes
	Ignored                     // it does not count, and a warning says so
	Rejected                    // the profile cannot be used, and the error names file and line
)

// A Rule says for one setting what becomes of it in each place.
type Rule struct {
	Name string // of a key, or of a variable
	In   [countPlaces]Decision
}

// Rules is the one table of who may redirect what: each setting that changes where something is sent, what is run or
// what is trusted. Its words for people are in docs/trust.md, which a test compares with it.
var Rules = []Rule{
	// Where a signed call goes.
	{keyEndpointURL, inFiles(Taken, OnceTrusted, Rejected)},
	{keyServices, inFiles(Taken, OnceTrusted, Rejected)},
	{keySTSEndpointURL, inFiles(Taken, OnceTrusted, Rejected)},
	{keySTSEndpoint, inFiles(Taken, Unread, Unread)},
	{keySTSCompatible, inFiles(Taken, Unread, Unread)},
	{keyHTTPSProxy, inFiles(Taken, Unread, Unread)},
	{keyNoProxy, inFiles(Taken, Unread, Unread)},
	// Which certificates are trusted.
	{keyCABundle, inFiles(Taken, Taken, Rejected)},
	// What is run.
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
	// Which role, in which account, is assumed, and from which source.
	{keyRoleARN, inFiles(Taken, Taken, OnceTrusted)},
	{keySourceProfile, inFiles(Taken, Taken, OnceTrusted)},
	{keyExternalID, inFiles(Taken, Taken, OnceTrusted)},
	{keyMFASerial, inFiles(Taken, Taken, OnceTrusted)},
	{keySessionName, inFiles(Taken, Taken, OnceTrusted)},
	{keyDuration, inFiles(Taken, Taken, OnceTrusted)},
	// A helper of others is never run. Ours makes a name stand for another profile.
	{keyCredentialProcess, inFiles(Taken, Taken, OnceTrusted)},

	// Which files are read. A daemon reads its own registry alone, whatever a client names, and one whose registry, state
	// or keyring directory is not the default one has a socket of its own.
	{"AWS_CONFIG_FILE", environment(Taken, Taken)},
	{"AWS_SHARED_CREDENTIALS_FILE", environment(Taken, Taken)},
	{"BROKER_CONFIG", environment(Taken, Taken)},
	{"BROKER_KEYRING_DIR", environment(Taken, Taken)},
	{"BROKER_KEYRING_PASSPHRASE_FILE", environment(Taken, Taken)},
	{"BROKER_STATE_DIR", environment(Taken, Taken)},
	{"BROKER_RUNTIME_DIR", environment(Taken, Taken)},
	{"BROKER_SOCKET", environment(Taken, Taken)},
	{"HOME", environment(Taken, Taken)},
	{"XDG_CONFIG_HOME", environment(Taken, Taken)}, // for Broker's own files; its children see those of the unit alone
	{"XDG_DATA_HOME", environment(Taken, Taken)},
	{"XDG_STATE_HOME", environment(Taken, Taken)},
	{"XDG_RUNTIME_DIR", environment(Taken, Taken)},
	{"PASSWORD_STORE_DIR", environment(Ignored, Taken)},
	{"GNUPGHOME", environment(Ignored, Taken)},
	// How calls travel, and whom they trust.
	{"HTTPS_PROXY", environment(Ignored, Taken)},
	{"NO_PROXY", environment(Ignored, Taken)},
	{"AWS_CA_BUNDLE", environment(Ignored, Taken)},
	{"SSL_CERT_FILE", environment(Ignored, Taken)},
	{"SSL_CERT_DIR", environment(Ignored, Taken)},
	// What is run, and whom a window or a keyring is asked of. PATH is built. Of BROWSER, which only a command reads,
	// console.FromShell takes what no file of a repository can bring along.
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
	// The sockets that a service manager hands over.
	{"LISTEN_FDS", environment(Unread, Taken)},
	{"LISTEN_PID", environment(Unread, Taken)},
}

func inFiles(registry, standard, other Decision) [countPlaces]Decision {
	return [countPlaces]Decision{InRegistry: registry, InDefault: standard, InOther: other}
}

func environment(shell, unit Decision) [countPlaces]Decision {
	return [countPlaces]Decision{FromShell: shell, FromUnit: unit}
}

// harmless are the keys that redirect nothing: they choose between AWS's own hosts, describe, or make a profile one
// that Broker does not serve at all.
var harmless = set(keyRegion, keySTSRegional, keyFIPS, keyIgnoreEndpoints, keySTS, keyOutput,
	keyCredentialSource, keyWebIdentity, keySSOSession, keySSOStartURL, keyLoginSession,
	keyAccessKeyID, keySecretKey, keySessionToken, keySourceKeyID, keySession, keyMFASeed, keyConfirm,
	keyMFA,
	keySessionDuration, keyLockAfter, keyLockOn, keyAudit, keyMFAPrompt, keyTrustSum, keyTrustListener)

var ruleByName = func() map[string]*Rule {
	m := make(map[string]*Rule, len(Rules))
	for i := range Rules {
		m[Rules[i].Name] = &Rules[i]
	}
	return m
}()

// Decide says what becomes of a key in a place. It is the only one that does. A key without a rule is a defect.
func Decide(key string, place Place) Decision {
	if rule := ruleByName[key]; rule != nil {
		return rule.In[place]
	}
	if _, ok := harmless[key]; ok {
		return Taken
	}
	panic(fmt.Sprintf("the key %q has no rule", key))
}
