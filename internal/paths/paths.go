// Package paths says where files are: the defaults, and the environment variables that override them. It does not
// open or create any of them.
package paths

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
)

// Paths holds the absolute path of everything that Broker reads or writes. The defaults below are those of Unix;
// paths_windows.go has those of Windows.
type Paths struct {
	Config      string // ~/.aws/config, AWS_CONFIG_FILE
	Credentials string // ~/.aws/credentials, AWS_SHARED_CREDENTIALS_FILE
	AWS         string // directory ~/.aws, which no variable overrides; empty without a home directory
	Registry    string // $XDG_CONFIG_HOME/broker/config, BROKER_CONFIG
	Keyring     string // directory of the file backend: $XDG_DATA_HOME/broker/keyring, BROKER_KEYRING_DIR
	State       string // directory: $XDG_STATE_HOME/broker, BROKER_STATE_DIR
	// Runtime is a directory: $XDG_RUNTIME_DIR/broker, else State/run; BROKER_RUNTIME_DIR. If XDG_RUNTIME_DIR is not
	// set, as under cron, it is LoginRuntime. If registry, keyring or
	// state are not in their default places below HOME, the default of Runtime gets a suffix derived from them:
	// "broker-1f2e3d4c". So each combination has its own daemon, and a shell that overrides one of them never
	// starts a daemon where other shells look for theirs.
	Runtime string
	// Other is the default of Runtime for processes of this user with another XDG_RUNTIME_DIR, or "". A daemon there
	// has the same registry, keyring and state.
	Other  string
	Socket string // Runtime/broker.sock, BROKER_SOCKET
	// Door is the directory of a door, BROKER_DOOR; empty for none. A client with a door asks nobody else: it starts no
	// daemon, and sends nothing but the name of the profile.
	Door string
}

// Audit returns the path of the audit log.
func (p Paths) Audit() string { return filepath.Join(p.State, "audit.log") }

// Log returns the path of the log of a daemon that was started on demand.
func (p Paths) Log() string { return filepath.Join(p.State, "daemon.log") }

// Linked returns the path of the file in which `broker profiles link` records what it changed.
func (p Paths) Linked() string { return filepath.Join(p.State, "linked.json") }

// LockFileIn returns the path of the file in a state directory that says whether Broker is locked. Package lockfile
// decides which state directories count.
func LockFileIn(state string) string { return filepath.Join(state, "lock.json") }

// StateBelow returns the state directory below a home directory, regardless of variables.
func StateBelow(home string) string { return filepath.Join(home, state.belowHome) }

// RegistryBelow returns the registry below a home directory, regardless of variables.
func RegistryBelow(home string) string { return filepath.Join(home, registry.belowHome) }

// KeyringBelow returns the directory of the file keyring below a home directory, regardless of variables.
func KeyringBelow(home string) string { return filepath.Join(home, keyring.belowHome) }

// RegistryVariables returns the variables that override the path of the registry.
func RegistryVariables() []string { return []string{"BROKER_CONFIG", registry.base} }

// KeyringVariables returns the variables that override the directory of the file keyring.
func KeyringVariables() []string { return []string{"BROKER_KEYRING_DIR", keyring.base} }

// Home returns the home directory that the environment names, or "" if it is not an absolute path.
func Home() string {
	if home := os.Getenv(homeVariable); filepath.IsAbs(home) {
		return home
	}
	return ""
}

// Overlays returns the directory of the files that `exec --mode file` creates.
func (p Paths) PrivateFiles() string { return filepath.Join(p.Runtime, "overlays") }

// Doors returns the directory of the doors: each has a directory of its name there.
func (p Paths) Doors() string { return filepath.Join(p.Runtime, "doors") }

// FromEnv reads the environment. It fails only if a needed path cannot be derived: HOME is not set, and neither is
// a variable that overrides the path.
func FromEnv() (Paths, error) {
	e := env{home: os.Getenv(homeVariable)}
	p := Paths{
		Config:      e.path("AWS_CONFIG_FILE", place{belowHome: ".aws/config"}),
		Credentials: e.path("AWS_SHARED_CREDENTIALS_FILE", place{belowHome: ".aws/credentials"}),
		Registry:    e.path("BROKER_CONFIG", registry),
		Keyring:     e.path("BROKER_KEYRING_DIR", keyring),
		State:       e.path("BROKER_STATE_DIR", state),
	}
	if filepath.IsAbs(e.home) {
		p.AWS = filepath.Join(e.home, ".aws")
	}
	if p.Runtime = os.Getenv("BROKER_RUNTIME_DIR"); p.Runtime != "" {
		p.Runtime = e.absolute(p.Runtime)
	} else {
		p.Runtime, p.Other = e.runtime(p)
	}
	if p.Socket = os.Getenv("BROKER_SOCKET"); p.Socket != "" {
		p.Socket, p.Other = e.absolute(p.Socket), ""
	} else {
		p.Socket = filepath.Join(p.Runtime, "broker.sock")
	}
	if door := os.Getenv("BROKER_DOOR"); door != "" {
		p.Door = e.absolute(door)
	} else if dir := filepath.Dir(p.Config); filepath.Dir(dir) == p.Doors() {
		p.Door = dir // a tool that passes on few variables, such as those of AWS, does not lead out of the door
	}
	return p, e.err
}

// runtime returns the runtime directory, and the one that a program with another environment uses, if there is one.
func (e *env) runtime(p Paths) (dir, other string) {
	below, login := e.belowState(p), LoginRuntime(e.home)
	if run := cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), login); usable(run) {
		return filepath.Join(run, "broker"+e.suffix(p, p.State)), below
	}
	if login == "" {
		return below, ""
	}
	return below, filepath.Join(login, "broker"+e.suffix(p, p.State))
}

// belowState returns the runtime directory below the state directory, which therefore does not count for the suffix.
func (e *env) belowState(p Paths) string {
	return filepath.Join(p.State, "run"+e.suffix(p, filepath.Join(e.home, state.belowHome)))
}

// suffix tells the runtime directories of different registries, keyrings and state directories apart; it is empty
// for the defaults. stateDir is the state directory to compare with the default.
func (e *env) suffix(p Paths, stateDir string) string {
	home := func(at place) string { return filepath.Join(e.home, at.belowHome) }
	if filepath.Clean(p.Registry) == home(registry) && filepath.Clean(p.Keyring) == home(keyring) &&
		filepath.Clean(stateDir) == home(state) {
		return ""
	}
	sum := fnv.New32a() // a collision does no harm: a daemon gives nothing to a client with other paths
	_, _ = sum.Write([]byte(p.Registry + "\x00" + p.Keyring + "\x00" + p.State))
	return fmt.Sprintf("-%08x", sum.Sum32())
}

// Moved returns the absolute paths that variables of this environment override, by the name of the variable: what
// a process in another working directory needs in its environment to use the same files. With them it needs no XDG
// base directory except XDG_RUNTIME_DIR.
func (p Paths) Moved() map[string]string {
	moved := map[string]string{}
	for name, at := range map[string]struct{ path, base string }{
		"AWS_CONFIG_FILE": {p.Config, ""}, "AWS_SHARED_CREDENTIALS_FILE": {p.Credentials, ""},
		"BROKER_CONFIG": {p.Registry, registry.base}, "BROKER_KEYRING_DIR": {p.Keyring, keyring.base},
		"BROKER_STATE_DIR": {p.State, state.base}, "BROKER_RUNTIME_DIR": {p.Runtime, ""}, "BROKER_SOCKET": {p.Socket, ""},
	} {
		if os.Getenv(name) != "" || at.base != "" && filepath.IsAbs(os.Getenv(at.base)) {
			moved[name] = at.path
		}
	}
	return moved
}

type env struct {
	home string
	err  error
}

// place is where a file is by default: below the base directory that a variable of the system names, else below
// the home directory.
type place struct{ base, belowBase, belowHome string }

// path returns the value of the variable, else the default place.
func (e *env) path(variable string, p place) string {
	if v := os.Getenv(variable); v != "" {
		return e.absolute(v)
	}
	// The XDG specification says to ignore a base directory that is not absolute.
	if v := os.Getenv(p.base); filepath.IsAbs(v) {
		return filepath.Join(v, p.belowBase)
	}
	if !filepath.IsAbs(e.home) {
		switch {
		case e.err != nil: // report the problem once
		case e.home == "":
			e.err = fmt.Errorf("%s is not set; set it to your home directory", homeVariable)
		default:
			e.err = fmt.Errorf("%s is %q, which is not an absolute path; set it to your home directory",
				homeVariable, e.home)
		}
		return ""
	}
	return filepath.Join(e.home, p.belowHome)
}

// absolute expands a leading ~/, as botocore does for these variables, and makes other paths absolute, because the
// daemon has another working directory.
func (e *env) absolute(v string) string {
	if v[0] == '~' && len(v) > 1 && os.IsPathSeparator(v[1]) && filepath.IsAbs(e.home) {
		return filepath.Join(e.home, v[2:])
	}
	abs, err := filepath.Abs(v)
	if err != nil {
		e.err = errors.Join(e.err, err)
	}
	return abs
}
