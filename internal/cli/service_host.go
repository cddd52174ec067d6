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

// serviceHost is the service manager of a system, with the commands that control it.
type serviceHost struct {
	name    string
	files   func(service.Daemon) ([]service.File, error)
	names   []service.File // without text; the files that uninstall removes
	program func() string  // returns the program that the installed files start
	shared  string         // directory of a package's units, if they are enabled and the user has no units
	// answers reports whether a service manager runs for this user.
	answers func(context.Context) bool
	load    [][]string // run after files were written
	unload  [][]string // run before files are removed
	reload  [][]string // run after files were removed
	runs    []string   // succeeds if the service manager runs the daemon
	restart [][]string
	stop    [][]string
	listen  [][]string // makes the socket listen again, if there is one and the daemon does not run
	byHand  fault.Hint // command to run where no service manager answers
}

func (p *program) serviceHost() (serviceHost, error) {
	p.interrupts.catch() // commands of the service manager end with this command
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
			name:  "systemd",
			files: func(d service.Daemon) ([]service.File, error) { return service.Systemd(dir, d, runtimeDir()) },
			names: []service.File{
				{Path: filepath.Join(dir, service.ServiceUnit)},
				{Path: filepath.Join(dir, service.SocketUnit)},
			},
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

// runtimeDir returns the value of systemd's %t, if the path of the socket is below it.
func runtimeDir() string {
	if os.Getenv("BROKER_RUNTIME_DIR") != "" || os.Getenv("BROKER_SOCKET") != "" {
		return ""
	}
	return os.Getenv("XDG_RUNTIME_DIR")
}

// superviseTimeout is how long one command of the service manager may take, including requests that the daemon
// finishes.
const superviseTimeout = 30 * time.Second

// supervise runs one command of the service manager and returns its output.
func supervise(ctx context.Context, argv []string) (string, error) {
	var stderr bytes.Buffer
	out, err := child.Command{
		Program: argv[0],
		Args:    argv[1:],
		Env:     os.Environ(),
		Stderr:  &stderr,
		Timeout: superviseTimeout,
	}.Run(
		ctx,
	)
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
