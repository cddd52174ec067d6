package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/child"
	"broker/internal/client"
	"broker/internal/daemon"
	"broker/internal/fault"
	"broker/internal/service"
	"broker/internal/version"
	"broker/internal/wire"
)

func (p *program) serviceCommand() *cli.Command {
	return &cli.Command{
		Name:  "service",
		Usage: "have the daemon started by systemd or launchd",
		Subcommands: []*cli.Command{
			{
				Name:  "install",
				Usage: "write the units of this user and start their socket; once more brings them up to date",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "print the files and write nothing"}},
				Action: func(c *cli.Context) error {
					if err := none(c); err != nil {
						return err
					}
					return p.serviceInstall(c.Context, c.Bool("dry-run"))
				},
			},
			{
				Name:   "uninstall",
				Usage:  "stop the service and remove its files",
				Action: p.noArguments(p.serviceUninstall),
			},
			{
				Name:  "status",
				Usage: "show what is installed, what runs, and who started it",
				Flags: []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error {
					if err := none(c); err != nil {
						return err
					}
					return p.serviceStatus(c.Context, c.Bool("json"))
				},
			},
			{
				Name:   "restart",
				Usage:  "put this version's daemon in the place of the one that runs, whoever started it",
				Action: p.noArguments(p.serviceRestart),
			},
		},
	}
}

func (p *program) noArguments(do func(context.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := none(c); err != nil {
			return err
		}
		return do(c.Context)
	}
}

// serviceHost is the service manager of a system, as the commands need it.
type serviceHost struct {
	name    string
	files   func(service.Daemon) ([]service.File, error)
	names   []service.File // without text: what uninstall looks for
	program func() string  // that the installed files start
	// answers reports whether one runs for this user.
	answers func(context.Context) bool
	load    [][]string // after files were written
	unload  [][]string // before they are removed
	reload  [][]string // after they were removed
	runs    []string   // succeeds where the daemon is run by it
	restart [][]string
	byHand  string // what to type where none answers
}

func (p *program) serviceHost() (serviceHost, error) {
	home := os.Getenv("HOME")
	switch runtime.GOOS {
	case "linux":
		dir := service.SystemdDir(home)
		ctl := func(args ...string) []string { return append([]string{"systemctl", "--user"}, args...) }
		return serviceHost{
			name:    "systemd",
			files:   func(d service.Daemon) ([]service.File, error) { return service.Systemd(dir, d, runtimeDir()) },
			names:   []service.File{{Path: filepath.Join(dir, service.ServiceUnit)}, {Path: filepath.Join(dir, service.SocketUnit)}},
			program: func() string { return service.SystemdProgram(dir) },
			answers: func(ctx context.Context) bool { _, err := supervise(ctx, ctl("show-environment")); return err == nil },
			load:    [][]string{ctl("daemon-reload"), ctl("enable", "--now", service.SocketUnit)},
			unload:  [][]string{ctl("disable", "--now", service.SocketUnit, service.ServiceUnit)},
			reload:  [][]string{ctl("daemon-reload")},
			runs:    ctl("is-active", "--quiet", service.ServiceUnit),
			restart: [][]string{ctl("restart", service.ServiceUnit)},
			byHand:  "systemctl --user daemon-reload && systemctl --user enable --now " + service.SocketUnit,
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
			restart: [][]string{{"launchctl", "kickstart", "-k", domain + "/" + service.Label}},
			byHand:  "launchctl bootstrap " + domain + " " + fault.Word(path),
		}, nil
	}
	return serviceHost{}, fault.New(fault.Failed, "this version has no service for %s; commands start the daemon by themselves", runtime.GOOS).WithHint("broker status")
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

// serviceDaemon is what a service would run.
func (p *program) serviceDaemon() (service.Daemon, error) {
	real, err := os.Executable()
	if err != nil {
		return service.Daemon{}, fault.New(fault.Failed, "find the broker's own program: %w", err)
	}
	var names []string
	for _, name := range []string{os.Args[0], "broker"} {
		if found, err := exec.LookPath(name); err == nil || errors.Is(err, exec.ErrDot) {
			if found, err = filepath.Abs(found); err == nil {
				names = append(names, found)
			}
		}
	}
	program, err := service.StablePath(real, names...)
	if err != nil {
		return service.Daemon{}, fault.New(fault.Failed, "%w", err)
	}
	d := service.Daemon{Program: program, Socket: p.paths.Socket, Log: p.paths.Log()}
	// Absolute, as they are understood here.
	meant := map[string]string{
		"AWS_CONFIG_FILE": p.paths.Config, "AWS_SHARED_CREDENTIALS_FILE": p.paths.Credentials, "BROKER_CONFIG": p.paths.Registry,
		"BROKER_KEYRING_DIR": p.paths.Keyring, "BROKER_RUNTIME_DIR": p.paths.Runtime, "BROKER_SOCKET": p.paths.Socket, "BROKER_STATE_DIR": p.paths.State,
	}
	for _, name := range service.Kept {
		value := os.Getenv(name)
		if path, known := meant[name]; known && value != "" {
			value = path
		}
		if filepath.IsAbs(value) {
			d.Env = append(d.Env, name+"="+value)
		}
	}
	return d, nil
}

func (p *program) serviceInstall(ctx context.Context, dryRun bool) error {
	host, err := p.serviceHost()
	if err != nil {
		return err
	}
	d, err := p.serviceDaemon()
	if err != nil {
		return err
	}
	files, err := host.files(d)
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	if dryRun {
		for _, f := range files {
			p.say("# %s\n%s", f.Path, f.Text)
		}
		return nil
	}
	changed, err := service.Write(files)
	if err != nil {
		return foreign(err)
	}
	what := "are up to date"
	if changed {
		what = "were written"
	}
	end := "the daemon is started by " + host.name
	if !host.answers(ctx) {
		end = fmt.Sprintf("no %s of this user answers here; where one does, type: %s", host.name, host.byHand)
	} else if err := p.load(ctx, host, changed); err != nil {
		return err
	}
	for _, f := range files {
		p.say("%s", f.Path)
	}
	p.say("the files of the service %s; they start %s", what, fault.Line(d.Program))
	if len(d.Env) > 0 {
		p.say("they keep what moves files here: %s", fault.Line(strings.Join(d.Env, " ")))
	}
	p.say("%s", end)
	return nil
}

// load tells the service manager of files that were written.
func (p *program) load(ctx context.Context, host serviceHost, changed bool) error {
	if host.name == "launchd" { // which refuses to load what is loaded
		_, err := supervise(ctx, host.runs)
		if err == nil && !changed {
			return nil
		}
		if err == nil {
			_ = superviseAll(ctx, host.unload)
		}
	}
	if err := superviseAll(ctx, host.load); err != nil {
		return err
	}
	// A daemon that was here before makes way for the one that this starts.
	quiet := p.client
	quiet.NoStart, quiet.Wait = true, client.StatusWait
	_, _ = quiet.Do(ctx, wire.Request{Verb: wire.Ping})
	return nil
}

// foreign says what to do about a file that is not ours.
func foreign(err error) error {
	if errors.Is(err, service.ErrForeign) {
		path, _, _ := strings.Cut(err.Error(), " "+service.ErrForeign.Error())
		return fault.New(fault.Failed, "%w; it was left as it is", err).WithHint("mv %s %s", fault.Word(path), fault.Word(path+".mine"))
	}
	return fault.New(fault.Failed, "%w", err)
}

func (p *program) serviceUninstall(ctx context.Context) error {
	host, err := p.serviceHost()
	if err != nil {
		return err
	}
	there := false
	for _, f := range host.names {
		one, err := service.Ours(f.Path)
		if err != nil {
			return foreign(err)
		}
		there = there || one
	}
	if !there {
		p.say("the service is not installed")
		return nil
	}
	answers := host.answers(ctx)
	if answers {
		if err := superviseAll(ctx, host.unload); err != nil && host.name != "launchd" { // an agent that is not loaded is none
			return err
		}
	}
	removed, err := service.Remove(host.names)
	if err != nil {
		return foreign(err)
	}
	if answers {
		if err := superviseAll(ctx, host.reload); err != nil {
			return err
		}
	}
	for _, path := range removed {
		p.say("removed %s", path)
	}
	return nil
}

func (p *program) serviceRestart(ctx context.Context) error {
	host, err := p.serviceHost()
	if err == nil && host.program() != "" && host.answers(ctx) {
		if _, err := supervise(ctx, host.runs); err == nil {
			if err := superviseAll(ctx, host.restart); err != nil {
				return err
			}
			p.say("restarted by %s", host.name)
			return nil
		}
	}
	quiet := p.client
	quiet.NoStart, quiet.Wait = true, client.StatusWait
	if _, err := quiet.Do(ctx, wire.Request{Verb: wire.Ping}); errors.Is(err, client.ErrNone) {
		p.say("no daemon is running; the next command starts one")
		return nil
	}
	if err := p.background(ctx, true); err != nil {
		return err
	}
	p.say("replaced by a daemon of version %s", version.String())
	return nil
}

// serviceReport is what `service status` tells.
type serviceReport struct {
	Host          string   `json:"service_manager"`
	Answers       bool     `json:"service_manager_answers"`
	Installed     bool     `json:"installed"`
	Files         []string `json:"files"`
	Program       string   `json:"program,omitempty"` // that they start
	ProgramExists bool     `json:"program_exists"`
	Enabled       string   `json:"enabled,omitempty"`
	Active        string   `json:"active,omitempty"`

	Running       bool   `json:"running"`
	PID           int    `json:"pid,omitempty"`
	StartedBy     string `json:"started_by,omitempty"`
	DaemonVersion string `json:"daemon_version,omitempty"`
	Version       string `json:"version"` // of this program
}

func (p *program) serviceStatus(ctx context.Context, asJSON bool) error {
	host, err := p.serviceHost()
	if err != nil {
		return err
	}
	r := serviceReport{Host: host.name, Answers: host.answers(ctx), Files: []string{}, Version: version.String()}
	for _, f := range host.names {
		there, err := service.Ours(f.Path)
		if err != nil {
			p.warn([]string{err.Error()})
		} else if there {
			r.Files = append(r.Files, f.Path)
		}
	}
	if r.Installed = len(r.Files) == len(host.names); r.Installed {
		r.Program = host.program()
		info, err := os.Stat(r.Program)
		r.ProgramExists = err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	}
	if r.Answers && host.name == "systemd" {
		// Their exit codes say the same once more.
		r.Enabled, _ = supervise(ctx, []string{"systemctl", "--user", "is-enabled", service.SocketUnit})
		r.Active, _ = supervise(ctx, []string{"systemctl", "--user", "is-active", service.SocketUnit})
	}
	status, err := p.client.Status(ctx)
	switch {
	case err == nil:
		r.Running, r.PID, r.StartedBy, r.DaemonVersion = true, status.PID, status.StartedBy, status.Version
	case !errors.Is(err, client.ErrNone):
		return err
	}
	if asJSON {
		return p.printJSON(r)
	}
	p.sayService(r)
	return nil
}

func (p *program) sayService(r serviceReport) {
	switch {
	case r.Installed && r.Answers:
		state := "loaded by launchd"
		if r.Host == "systemd" {
			state = fmt.Sprintf("socket %s, %s", dash(r.Enabled), dash(r.Active))
		}
		p.say("service   installed, %s", state)
	case r.Installed:
		p.say("service   installed; no %s of this user answers here", r.Host)
	case len(r.Files) > 0:
		p.say("service   installed in part; broker service install")
	default:
		p.say("service   not installed; commands start the daemon by themselves")
	}
	switch {
	case !r.Installed:
	case r.ProgramExists:
		p.say("program   %s", fault.Line(r.Program))
	default:
		p.say("program   %s is not there any more; broker service install", fault.Line(r.Program))
	}
	if !r.Running {
		p.say("daemon    not running; it is started when it is needed")
		return
	}
	how := ""
	switch r.StartedBy {
	case "": // it is too old to say
	case daemon.OnDemand:
		how = ", started on demand"
	default:
		how = ", started by " + fault.Line(r.StartedBy)
	}
	p.say("daemon    running, pid %d%s", r.PID, how)
	p.sayVersions(r.DaemonVersion)
}

// sayVersions shows the daemon's version where it is not this program's.
func (p *program) sayVersions(theirs string) {
	line := fmt.Sprintf("version   daemon %s, this program %s", dash(theirs), version.String())
	if theirs != version.String() {
		line += "; broker service restart"
	}
	p.say("%s", line)
}
