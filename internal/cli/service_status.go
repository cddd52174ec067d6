package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/service"
	"broker/internal/version"
	"broker/internal/wire"
)

// serviceReport is the output of `broker service status`.
type serviceReport struct {
	Host          string   `json:"service_manager"`
	Answers       bool     `json:"service_manager_answers"`
	Installed     bool     `json:"installed"`
	Files         []string `json:"files"`
	Program       string   `json:"program,omitempty"` // the program that the files start
	ProgramExists bool     `json:"program_exists"`
	Enabled       string   `json:"enabled,omitempty"`
	Active        string   `json:"active,omitempty"`

	Running       bool   `json:"running"`
	PID           int    `json:"pid,omitempty"`
	StartedBy     string `json:"started_by,omitempty"`
	DaemonVersion string `json:"daemon_version,omitempty"`
	Version       string `json:"version"` // of this program
}

// service returns what is known about the service.
func (p *program) service(ctx context.Context) (serviceReport, error) {
	host, err := p.serviceHost()
	if err != nil {
		return serviceReport{}, err
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
	if host.shared != "" {
		r.Files = []string{filepath.Join(host.shared, service.ServiceUnit), filepath.Join(host.shared, service.SocketUnit)}
	}
	if r.Installed = len(r.Files) == len(host.names); r.Installed {
		r.Program = host.program()
		info, err := os.Stat(r.Program)
		r.ProgramExists = err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	}
	if r.Answers && host.name == "systemd" {
		// The exit codes repeat what these commands print.
		r.Enabled, _ = supervise(ctx, []string{"systemctl", "--user", "is-enabled", service.SocketUnit})
		r.Active, _ = supervise(ctx, []string{"systemctl", "--user", "is-active", service.SocketUnit})
	}
	status, err := p.client.Status(ctx)
	switch {
	case err == nil:
		r.Running, r.PID, r.StartedBy, r.DaemonVersion = true, status.PID, status.StartedBy, status.Version
	case !errors.Is(err, client.ErrNone):
		return r, err
	}
	return r, nil
}

func (p *program) serviceStatus(ctx context.Context, asJSON bool) error {
	r, err := p.service(ctx)
	if err != nil {
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
			if r.Active != "active" {
				state += "; broker service restart"
			}
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
		p.say("program   %s no longer exists; broker service install", fault.Line(r.Program))
	}
	if !r.Running {
		p.say("daemon    not running; it starts on demand")
		return
	}
	p.say("daemon    running, pid %d%s", r.PID, how(r.StartedBy))
	p.sayVersions(r.DaemonVersion)
}

// how returns who started a daemon.
func how(startedBy string) string {
	switch startedBy {
	case "": // an old daemon does not report it
		return ""
	case wire.OnDemand:
		return ", started on demand"
	}
	return ", started by " + fault.Line(startedBy)
}

// sayVersions prints the versions of the daemon and of this program.
func (p *program) sayVersions(theirs string) {
	line := fmt.Sprintf("version   daemon %s, this program %s", dash(theirs), version.String())
	if theirs != version.String() {
		line += "; broker service restart"
	}
	p.say("%s", line)
}
