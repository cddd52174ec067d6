package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/service"
	"broker/internal/version"
	"broker/internal/wire"
)

func (p *program) serviceCommand() *cli.Command {
	return &cli.Command{
		Name:  "service",
		Usage: "run the daemon as a service of systemd or launchd",
		UsageText: "broker service install\n" +
			"broker service status",
		Subcommands: []*cli.Command{
			{
				Name:  "install",
				Usage: "install or update the service of this user",
				UsageText: "broker service install --dry-run\n" +
					"broker service install",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "print the files, and write nothing"}},
				Action: func(c *cli.Context) error { return p.serviceInstall(c.Context, c.Bool("dry-run")) },
			},
			{
				Name:      "uninstall",
				Usage:     "stop the service and remove its files",
				UsageText: "broker service uninstall",
				Action:    func(c *cli.Context) error { return p.serviceUninstall(c.Context) },
			},
			{
				Name:      "status",
				Usage:     "show what is installed, what runs and who started it",
				UsageText: "broker service status",
				Flags:     []cli.Flag{jsonFlag()},
				Action:    func(c *cli.Context) error { return p.serviceStatus(c.Context, c.Bool("json")) },
			},
			{
				Name:      "restart",
				Usage:     "replace the running daemon with this version",
				UsageText: "broker service restart",
				Action:    func(c *cli.Context) error { return p.serviceRestart(c.Context) },
			},
			{
				Name:      "stop",
				Usage:     "stop the daemon and its socket until the next start",
				UsageText: "broker service stop",
				Action:    func(c *cli.Context) error { return p.serviceStop(c.Context) },
			},
		},
	}
}

// serviceStop stops the daemon and socket of the service manager, and any other daemon.
func (p *program) serviceStop(ctx context.Context) error {
	if host, err := p.serviceHost(); err == nil && host.program() != "" && host.answers(ctx) {
		if err := superviseAll(ctx, host.stop); err != nil {
			return err
		}
		p.say("%s starts no daemon until you log in again or run: %s", host.name, host.byHand)
	}
	return p.stopDaemon(ctx)
}

// serviceDaemon returns the daemon that a service would run.
func (p *program) serviceDaemon() (service.Daemon, error) {
	real, err := p.daemonProgram()
	if err != nil {
		return service.Daemon{}, err
	}
	var names []string
	for _, name := range []string{os.Args[0], "broker", "brokerd"} {
		if found, err := exec.LookPath(name); err == nil || errors.Is(err, exec.ErrDot) {
			if found, err = filepath.Abs(found); err == nil {
				names = append(names, filepath.Join(filepath.Dir(found), "brokerd"))
			}
		}
	}
	program, err := service.StablePath(real, names...)
	if err != nil {
		return service.Daemon{}, fault.New(fault.Failed, "%w", err)
	}
	d := service.Daemon{Program: program, Socket: p.paths.Socket, Log: p.paths.Log()}
	moved := p.paths.Moved()
	for _, name := range service.Kept {
		value := os.Getenv(name)
		if path, ok := moved[name]; ok { // the absolute path that this command uses
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
			p.raw("# " + f.Path + "\n" + f.Text)
		}
		return nil
	}
	changed, err := service.Write(files)
	if err != nil {
		return notOurs(err)
	}
	what := "are up to date"
	if changed {
		what = "were written"
	}
	end := "the daemon is started by " + host.name
	if !host.answers(ctx) {
		end = fmt.Sprintf("no %s of this user answers here; where one does, run: %s", host.name, host.byHand)
	} else if err := p.load(ctx, host, changed); err != nil {
		return err
	}
	for _, f := range files {
		p.say("%s", f.Path)
	}
	p.say("the files of the service %s; they start %s", what, fault.Line(d.Program))
	if len(d.Env) > 0 {
		p.say("they keep the variables that move files: %s", fault.Line(strings.Join(d.Env, " ")))
	}
	p.say("%s", end)
	return nil
}

// load makes the service manager read the written files.
func (p *program) load(ctx context.Context, host serviceHost, changed bool) error {
	if host.name == "launchd" { // launchd refuses to load an agent twice
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
	// An older daemon that still runs makes way for the one that this request starts.
	_ = p.ping(ctx)
	return nil
}

// ping sends a request to a running daemon, and starts none.
func (p *program) ping(ctx context.Context) error {
	quiet := p.client
	quiet.NoStart, quiet.Wait = true, client.StatusWait
	_, err := quiet.Do(ctx, wire.Request{Verb: wire.Ping})
	return err
}

// notOurs adds to an error about a foreign file the command that moves the file away.
func notOurs(err error) error {
	if errors.Is(err, service.ErrForeign) {
		path, _, _ := strings.Cut(err.Error(), " "+service.ErrForeign.Error())
		return fault.New(fault.Failed, "%w; it was left as it is", err).WithHint("mv %s %s", path, path+".mine")
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
			return notOurs(err)
		}
		there = there || one
	}
	if !there && host.shared == "" {
		p.say("the service is not installed")
		return nil
	}
	answers := host.answers(ctx)
	if answers {
		if err := superviseAll(ctx, host.unload); err != nil && host.name != "launchd" { // launchd fails if the agent is not loaded
			return err
		}
	}
	removed, err := service.Remove(host.names)
	if err != nil {
		return notOurs(err)
	}
	if answers {
		if err := superviseAll(ctx, host.reload); err != nil {
			return err
		}
	}
	for _, path := range removed {
		p.say("removed %s", path)
	}
	// `systemctl --user disable` does not undo what root enabled for all users.
	left := ""
	if host.name == "systemd" {
		left = service.EnabledPackage(service.SystemdDir(os.Getenv("HOME")))
	}
	switch {
	case answers && left != "":
		p.say("the units in %s belong to a package and stay enabled for all users; to disable them, type: %s",
			fault.Line(left), fault.Hintf("sudo systemctl --global disable %s", service.SocketUnit))
	case left != "":
		p.say("the units in %s belong to a package; no systemd of this user answers here; they stay enabled", fault.Line(left))
	case host.shared != "":
		p.say("the units in %s belong to a package; disabled", fault.Line(host.shared))
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
		// The service manager may have stopped restarting the daemon, or another process may have replaced the
		// socket file. A running daemon makes way.
		if host.listen != nil {
			if err := superviseAll(ctx, host.listen); err != nil {
				return err
			}
			p.say("%s listens again, and starts the daemon for the next command", host.name)
			return nil
		}
	}
	if errors.Is(p.ping(ctx), client.ErrNone) {
		p.say("no daemon is running; the next command starts one")
		return nil
	}
	if err := p.client.Replace(ctx); err != nil {
		return err
	}
	p.say("replaced by a daemon of version %s", version.String())
	return nil
}
