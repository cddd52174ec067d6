package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"broker/internal/child"
	"broker/internal/fault"
	"broker/internal/service"
)

// serviceHost is the service manager of a system, as the commands need it.
type serviceHost struct {
	name    string
	files   func(service.Daemon) ([]service.File, error)
	names   []service.File // without text: what uninstall looks for
	program func() string  // that the installed files start
	shared  string         // directory of a package's units, if they are enabled and this user has none of his own
	// answers reports whether one runs for this user.
	answers func(context.Context) bool
	load    [][]string // after files were written
	unload  [][]string // before they are removed
	reload  [][]string // after they were removed
	runs    []string   // succeeds where the daemon is run by it
	restart [][]string
	stop    [][]string
	listen  [][]string // has its socket listen again, where it has one and does not run the daemon
	byHand  fault.Hint // what to type where none answers
}

func (p *program) serviceHost() (serviceHost, error) {
	p.interrupts.catch() // so that what is asked of the service manager ends with the command
	home := os.Getenv("HOME")
	switch runtime.GOOS {
	case "linux":
		dir := service.SystemdDir(home)
		ctl := func(args ...string) []string { return append([]string{"systemctl", "--user"}, args...) }
		at, shared := dir, ""
		if _, err := os.Lstat(filepath.Join(dir, service.ServiceUnit)); err != nil {
			if shared = service.EnabledPackage(dir); shared != "" {
				at = shared
			}
		}
		return serviceHost{
			name:    "systemd",
			files:   func(d service.Daemon) ([]service.File, error) { return service.Systemd(dir, d, runtimeDir()) },
			names:   []service.File{{Path: filepath.Join(dir, service.ServiceUnit)}, {Path: filepath.Join(dir, service.SocketUnit)}},
			program: func() string { return service.SystemdProgram(at) },
			shared:  shared,
			answers: func(ctx context.Context) bool { _, err := supervise(ctx, ctl("show-environment")); return err == nil },
			load:    [][]string{ctl("daemon-reload"), ctl("enable", "--now", service.SocketUnit)},
			unload:  [][]string{ctl("disable", "--now", service.SocketUnit, service.ServiceUnit)},
			reload:  [][]string{ctl("daemon-reload")},
			runs:    ctl("is-active", "--quiet", service.ServiceUnit),
			restart: [][]string{ctl("restart", service.ServiceUnit)},
			stop:    [][]string{ctl("stop", service.SocketUnit, service.ServiceUnit)},
			listen:  [][]string{ctl("reset-failed", service.ServiceUnit, service.SocketUnit), ctl("restart", service.SocketUnit)},
			byHand:  fault.Hintf("systemctl --user daemon-reload && systemctl --user enable --now %s", service.SocketUnit),
		}, nil
	case "darwin":
		domain := fmt.Sprintf("gui/%d", os.Getuid())
		path := service.LaunchdPath(home)
		return serviceHost{
			name:    "launchd",
			files:   func(d service.Daemon) ([]service.File, error) { return service.Launchd(home, d) },
			names:   []service.File{{Path: path}},
			program: func() string { return service.LaunchdProgram(home) },
			answers: func(ctx context.Context) bool {
				_, err := supervise(ctx, []string{"launchctl", "print", domain})
				return err == nil
			},
			load:    [][]string{{"launchctl", "bootstrap", domain, path}},
			unload:  [][]string{{"launchctl", "bootout", domain + "/" + service.Label}},
			runs:    []string{"launchctl", "print", domain + "/" + service.Label},
			stop:    [][]string{{"launchctl", "bootout", domain + "/" + service.Label}},
			restart: [][]string{{"launchctl", "kickstart", "-k", domain + "/" + service.Label}},
			byHand:  fault.Hintf("launchctl bootstrap %s %s", domain, path),
		}, nil
	}
	return serviceHost{}, fault.New(fault.Failed, "this version supports no service on %s; commands start the daemon by themselves", runtime.GOOS).WithHint("broker status")
}

// runtimeDir is what systemd calls %t, where the socket's path was taken from it.
func runtimeDir() string {
	if os.Getenv("BROKER_RUNTIME_DIR") != "" || os.Getenv("BROKER_SOCKET") != "" {
		return ""
	}
	return os.Getenv("XDG_RUNTIME_DIR")
}

// superviseTimeout bounds one command of the service manager, the daemon's draining included.
const superviseTimeout = 30 * time.Second

// supervise runs one command of the service manager and returns what it printed.
func supervise(ctx context.Context, argv []string) (string, error) {
	var stderr bytes.Buffer
	out, err := child.Command{Program: argv[0], Args: argv[1:], Env: os.Environ(), Stderr: &stderr, Timeout: superviseTimeout}.Run(ctx)
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return strings.TrimSpace(string(out)), fault.New(fault.Failed, "%s: %w: %s", strings.Join(argv, " "), err, line).WithHint("broker service status")
	}
	return strings.TrimSpace(string(out)), nil
}

func superviseAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if _, err := supervise(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}
