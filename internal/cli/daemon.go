package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/audit"
	"broker/internal/child"
	"broker/internal/daemon"
	"broker/internal/environ"
	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/latch"
	"broker/internal/lazyregexp"
	"broker/internal/logind"
	"broker/internal/mfa"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/system"
	"broker/internal/vault"
	"broker/internal/version"
	"broker/internal/wire"
)

func (p *program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "run the daemon in the foreground; credproc and the commands start one by themselves",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "replace", Usage: "take over from the daemon that runs, if one does"},
			&cli.BoolFlag{Name: "background", Usage: "return when it listens, and leave it running", Hidden: true},
			&cli.BoolFlag{Name: "ready-on-stdout", Hidden: true},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if c.Bool("background") {
				return p.background(c.Context, c.Bool("replace"))
			}
			return p.daemon(c.Context, c.Bool("ready-on-stdout"), c.Bool("replace"))
		},
	}
}

// daemon is where everything is wired together.
func (p *program) daemon(ctx context.Context, background, replace bool) error {
	// Whoever traces a daemon gets all that it will hold.
	if err := harden.Untraced(); err != nil {
		return fault.New(fault.Failed, "the daemon does not start: %w", err).WithHint("broker daemon")
	}
	// Before anything is started: no child may take the service manager's variables for its own.
	activated, err := socket.Activated()
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	// Nor may a pipe of whoever started us stay open, or a lock of theirs held.
	system.CloseInherited()
	started := startedBy(activated != nil, background)
	environ.Apply(environ.Build(os.Environ(), p.paths, started == daemon.ByService || started == daemon.ByActivity))
	warnings, err := environ.CheckOwners()
	if err != nil {
		return err
	}
	// No file of ours depends on the user's umask.
	system.Umask(0o077)
	state, err := record.Make(p.paths.State, record.Guarded)
	if err != nil {
		return fault.New(fault.Unreachable, "use the state directory: %w", err).WithHint("%s", fault.Of(err).Hint)
	}
	defer func() { _ = state.Close() }()
	logs := p.stderr
	if background {
		file, err := openLog(state, filepath.Base(p.paths.Log()))
		if err != nil {
			return fault.New(fault.Failed, "open the log: %w", err).WithHint("%s", fault.Of(err).Hint)
		}
		defer func() { _ = file.Close() }()
		logs = file
	}
	log := slog.New(slog.NewTextHandler(fault.Writer(logs), nil))
	trail := audit.New(p.paths.Audit(), func(err error) { log.Error("audit", "err", err) })
	defer func() { _ = trail.Close() }()

	store := new(profiles.Store)
	files := p.files()
	settings := p.latest(store)
	onSettings := follow()
	onSettings(settings())
	route := func() profiles.Route { return routeOf(settings(), os.Getenv) }
	caller := &vault.Caller{Backend: func() string { return settings().KeyringBackend }, Dir: p.paths.Keyring,
		StateDir: p.paths.State, Route: route} // it opens sources alone, which name their registry
	flights, end := context.WithCancel(context.Background())
	defer end()
	broker := session.New(flights, session.Config{
		Profiles:    store,
		Vault:       caller,
		STS:         exchange.New(exchange.Options{Route: route}),
		SessionName: sessionName(),
		BootTime:    bootTime(),
		Process:     mfa.FromProcess,
		Remind:      remind(log),
		Log:         log,
	})
	caller.Notice = func(source, line string) {
		log.Info("vault", "source", source, "notice", line)
		broker.Tell(source, line)
	}
	place, err := p.takePlace(ctx, started, activated, replace)
	if err != nil {
		return daemonError(p, err)
	}
	lock := p.lockPlaces()
	d := daemon.New(daemon.Config{
		Socket:  p.paths.Socket,
		Files:   files,
		Broker:  broker,
		Store:   store,
		Keyring: fileKeyring{caller},
		Audit:   trail,
		Log:     log,
		Version: version.String(),
		Window:  mfa.AskGUI,

		Overlays:  p.paths.Overlays(),
		Published: p.paths.Published(),

		Latch:      latch.New(lock.File),
		Places:     lock,
		Events:     logind.Watch,
		BootTime:   bootTime(),
		StateDir:   p.paths.State,
		KeyringDir: p.paths.Keyring,
		Home:       paths.Home(),
		Setup:      func() wire.Setup { return p.setup(settings()) },
		OnSettings: onSettings,
		Warnings:   warnings,

		StartedBy: place.startedBy,
		Listener:  place.listener,
		Heritage:  place.heritage,
		ExitAfter: place.exitAfter,
	})
	ready := func() {
		log.Info("listening", "socket", p.paths.Socket, "pid", os.Getpid(), "version", version.String())
		if background {
			// Whoever waits for us reads to the end of these two.
			_, _ = io.WriteString(p.stdout, readyLine)
			detach()
		}
	}
	return daemonError(p, d.Run(ctx, ready))
}

// daemonError is what is said of the end of a daemon.
func daemonError(p *program, err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, socket.ErrTaken):
		p.say("a daemon is running already")
		return nil
	case err != nil:
		return fault.New(fault.Failed, "%w", err)
	}
	return nil
}

// remind shows a notification on the desktop of the session that the daemon
// belongs to, as far as there is one.
func remind(log *slog.Logger) func(source string, end time.Time) {
	return func(source string, end time.Time) {
		text := fmt.Sprintf("The AWS session of %s ends at %s. To renew it: %s", fault.Line(source),
			end.Local().Format(time.TimeOnly), fault.Hintf("broker login %s", source))
		log.Info("session ends soon", "source", source, "ends", end)
		// Its text may have markup: https://specifications.freedesktop.org/notification-spec/latest/markup.html
		notify := child.Command{Program: "notify-send", Env: os.Environ(),
			Args: []string{"--app-name=broker", "AWS session", html.EscapeString(text)}}
		if runtime.GOOS == "darwin" {
			// The text is not part of the script, so that nothing in it can be one.
			notify = child.Command{Program: "osascript", Env: append(os.Environ(), "BROKER_TEXT="+text),
				Args: []string{"-e", `display notification (system attribute "BROKER_TEXT") with title "AWS session"`}}
		}
		if _, err := notify.Run(context.Background()); err != nil {
			log.Info("no notification", "err", err)
		}
	}
}

// fileKeyring keeps the key of the file keyring for the daemon.
type fileKeyring struct{ *vault.Caller }

// Unlock fulfils daemon.Keyring.
func (k fileKeyring) Unlock(ctx context.Context, key secret.String) error {
	if !key.IsZero() {
		k.SetPassphrase(key)
	}
	err := k.Check(ctx)
	if errors.Is(err, vault.ErrNotCreated) {
		// Nothing is stored yet, so there is nothing to unlock.
		return nil
	}
	if err != nil {
		k.Forget()
	}
	return err
}

const readyLine = "ready\n"

// background starts the daemon as a process of its own and returns when it
// listens. It ends itself at once, so that the daemon is nobody's child: neither of the tool
// that ran credproc nor of the command that takes the place of `broker exec`.
func (p *program) background(ctx context.Context, replace bool) error {
	self, err := os.Executable()
	if err != nil {
		return fault.New(fault.Failed, "find the broker's own program: %w", err)
	}
	for try := 1; ; try++ {
		killed, err := p.startDaemon(ctx, self, replace)
		// One that was killed says nothing against the next.
		if !killed || try == 3 {
			return err
		}
	}
}

// startDaemon starts one daemon and waits until it listens, or ends; killed
// reports whether a signal ended it.
func (p *program) startDaemon(ctx context.Context, self string, replace bool) (killed bool, err error) {
	args, wait := []string{"daemon", "--ready-on-stdout"}, 10*time.Second
	if replace { // the one before drains
		args, wait = append(args, "--replace"), 25*time.Second
	}
	cmd := exec.Command(self, args...)
	cmd.Env = environ.Build(os.Environ(), p.paths, false)
	cmd.Dir = "/"
	cmd.SysProcAttr = system.Session()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, fault.New(fault.Failed, "start the daemon: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return false, fault.New(fault.Failed, "start the daemon: %w", err)
	}
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(stdout, 4096))
		said <- string(b)
	}()
	select {
	case words := <-said:
		if words == readyLine {
			return false, nil
		}
		// It ended: another daemon was quicker, or it could not start.
		err := cmd.Wait()
		if err == nil {
			return false, nil
		}
		line, hint, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		if line == "" {
			line = "it ended before it listened: " + err.Error()
		}
		f := fault.New(fault.Failed, "%s", strings.TrimPrefix(line, "broker: "))
		f.Hint = fault.Hint(strings.TrimPrefix(hint, "hint: "))
		return cmd.ProcessState.ExitCode() < 0, f
	case <-ctx.Done():
		return false, fault.New(fault.Failed, "interrupted while the daemon was starting")
	case <-time.After(wait):
		_ = cmd.Process.Kill()
		return false, fault.New(fault.Failed, "the daemon did not start within %v", wait).WithHint("broker daemon")
	}
}

// detach lets go of the pipes to whoever started us.
func detach() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	for fd := 0; fd <= 2; fd++ {
		_ = dup2(int(null.Fd()), fd)
	}
	_ = null.Close()
}

// maxLog is where a daemon's log is begun anew at its start.
const maxLog = 4 << 20

func openLog(state *record.Dir, name string) (*os.File, error) {
	f, err := state.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, record.Guarded)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Size() > maxLog {
		_ = f.Truncate(0)
	}
	return f, nil
}

// notInSessionName is what a role session name may not hold.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var notInSessionName = lazyregexp.New(`[^\w+=,.@-]+`)

// sessionName is USER@HOST, so that CloudTrail shows who it was. In a container the uid may have no name.
func sessionName() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		name = "uid-" + strconv.Itoa(os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	name = notInSessionName.ReplaceAllString(name+"@"+host, "-")
	return name[:min(len(name), 64)]
}
