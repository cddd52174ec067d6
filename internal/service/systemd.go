package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The names of the units.
const (
	ServiceUnit = "broker.service"
	SocketUnit  = "broker.socket"
)

// SystemdDir returns the directory of the user's own units, systemd.unit(5).
func SystemdDir(home string) string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "systemd/user")
	}
	return filepath.Join(home, ".config/systemd/user")
}

// maxSocket is the longest path that systemd binds, in bytes: sun_path of unix(7) without the final NUL.
const maxSocket = 107

// Systemd returns the two units for dir. runtime is XDG_RUNTIME_DIR, systemd's %t; it may be empty.
func Systemd(dir string, d Daemon, runtime string) ([]File, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if len(d.Socket) > maxSocket {
		return nil, fmt.Errorf("%s is longer than the %d bytes that systemd can listen on", d.Socket, maxSocket)
	}
	if last := d.Socket[len(d.Socket)-1]; last == ' ' || last == '\\' {
		return nil, fmt.Errorf("a unit cannot contain a path that ends like this: %q", d.Socket)
	}
	socket := specifiers(d.Socket)
	if rest, below := strings.CutPrefix(d.Socket, strings.TrimSuffix(runtime, "/")+"/"); below && filepath.IsAbs(runtime) {
		socket = "%t/" + specifiers(rest)
	}
	return units(dir, d.Program, d.Env, socket, ownHeader)
}

// Packaged returns the two units that a package puts into dir for every user. They start program and listen where
// clients look if no variable moves the socket. Ours, Write and Remove refuse them: only the package changes them.
func Packaged(dir, program string) ([]File, error) {
	if err := checkPath(program); err != nil {
		return nil, err
	}
	return units(dir, program, nil, "%t/broker/broker.sock", packagedHeader)
}

// units fills in the two units. socket is the socket's path as the unit has it.
func units(dir, program string, environment []string, socket, header string) ([]File, error) {
	if strings.ContainsAny(program, `"'\`) {
		return nil, fmt.Errorf("systemd cannot start a program with a quote or a backslash in its path: %s", program)
	}
	var env strings.Builder
	for _, kv := range environment {
		fmt.Fprintf(&env, "Environment=%s\n", quoted(kv))
	}
	return []File{
		{filepath.Join(dir, ServiceUnit), header + fmt.Sprintf(serviceUnit, quoted(program), env.String())},
		{filepath.Join(dir, SocketUnit), header + fmt.Sprintf(socketUnit, socket)},
	}, nil
}

// allUsersDir is where `systemctl --global enable` enables units for all users, systemd.unit(5).
const allUsersDir = "/etc/systemd/user"

// EnabledPackage returns the directory of the units of a package, if the socket is enabled for the user whose own units
// are in dir, or for all users; otherwise it returns "".
func EnabledPackage(dir string) string { return enabledPackage(dir, allUsersDir) }

// enabledPackage does what EnabledPackage does, for a given directory of all users.
func enabledPackage(dir, allUsers string) string {
	for _, at := range []string{dir, allUsers} {
		link, err := os.Readlink(filepath.Join(at, "sockets.target.wants", SocketUnit))
		if err == nil && filepath.IsAbs(link) && filepath.Dir(link) != dir && SystemdProgram(filepath.Dir(link)) != "" {
			return filepath.Dir(link)
		}
	}
	return ""
}

// specifiers escapes per cent signs, which begin a specifier in systemd.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quoted writes one word as systemd.syntax(7) reads it. A dollar sign is special in the arguments of a command,
// but not in its path or in Environment=.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s) + `"`
}

// unquoted reverses quoted.
func unquoted(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `%%`, `%`).Replace(s)
}

const execBegin = "ExecStart="

// The first line of a unit says who changes it.
const (
	ownHeader      = "# " + marker + ", which also changes it; `broker service uninstall` removes it.\n"
	packagedHeader = "# Installed with Broker for every user. `broker service install` writes units for one user, which come first.\n"
)

// SystemdProgram returns the program that the service unit in dir starts; "" if there is no unit.
func SystemdProgram(dir string) string {
	text, err := read(filepath.Join(dir, ServiceUnit))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), execBegin); ok {
			return unquoted(strings.TrimSuffix(rest, " daemon")) // as version 0.1 wrote it
		}
	}
	return ""
}

// The restrictions are those that systemd can set for a user's unit without privileges, by seccomp, prctl and
// limits, and that do not break the programs which the daemon starts on the user's desktop (pinentry, zenity,
// gpg, a mfa_process). Restrictions that need a mount or user namespace (ProtectSystem=, PrivateTmp=,
// PrivateDevices= and the like) are not set: in user mode, older systemd ignores them or fails, and newer versions
// map every other uid to "nobody", but the audit log must name the uid. /tmp also holds the sockets of X11, gpg
// and agents. MemoryDenyWriteExecute= and RestrictNamespaces= would break helpers that compile at run time
// (Python's ctypes, software GL) or have their own sandbox (GTK's image loaders).
const serviceUnit = `[Unit]
Description=Broker, which hands out AWS role sessions
Requires=broker.socket
After=broker.socket
# With systemd's default, five exits in ten seconds would close the socket for good. A daemon that never starts still hits this limit.
StartLimitIntervalSec=60
StartLimitBurst=30

[Service]
Type=exec
` + execBegin + `%s
%sRestart=on-failure
RestartSec=1
TimeoutStopSec=10
KillMode=mixed
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM

[Install]
Also=broker.socket
`

const socketUnit = `[Unit]
Description=Socket of Broker

[Socket]
ListenStream=%s
SocketMode=0600
DirectoryMode=0700
# Only the user can connect. The daemon relies on that, and also rejects other users itself.
Backlog=4096

[Install]
WantedBy=sockets.target
`
