package brokerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"broker/internal/audit"
	"broker/internal/client"
	"broker/internal/daemon"
	"broker/internal/environ"
	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/lockfile"
	"broker/internal/logind"
	"broker/internal/mfa"
	"broker/internal/notice"
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

// daemon wires everything together and runs the daemon.
func (p *program) daemon(ctx context.Context, onDemand, replace bool) error {
	// A program that traces the daemon could read everything that it will hold.
	if err := harden.Untraced(); err != nil {
		return fault.New(fault.Failed, "the daemon does not start: %w", err).WithHint("broker daemon")
	}
	// Do this before any child starts: no child may use the service manager's variables.
	activated, err := socket.Activated()
	if err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	// Do not keep a pipe or a lock of the program that started us open.
	system.CloseInherited()
	// The program that started us may have ended. A write to its pipe then fails, and does not end the daemon. Children
	// get the default action, which an ignored signal would not leave them.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	started := startedBy(activated != nil, onDemand)
	environ.Apply(environ.Build(os.Environ(), p.paths, started == wire.ByService || started == wire.ByActivity))
	warnings, err := environ.CheckOwners()
	if err != nil {
		return err
	}
	// The modes of our files must not depend on the user's umask.
	system.Umask(0o077)
	state, err := record.Make(p.paths.State, record.Guarded)
	if err != nil {
		return fault.New(fault.Unreachable, "use the state directory %s: %w", p.paths.State, err).
			WithHint("%s", record.Unwritten(p.paths.State, err))
	}
	defer func() { _ = state.Close() }()
	logs := p.stderr
	if onDemand {
		file, err := openLog(state, filepath.Base(p.paths.Log()))
		switch {
		case err == nil:
			defer func() { _ = file.Close() }()
			logs = file
		case errors.Is(err, record.ErrRefused):
			return fault.New(fault.Failed, "open the log: %w", err).WithHint("%s", fault.Of(err).Hint)
		default: // a full disk, or one that is not writable
			logs = io.Discard
			warnings = append(warnings, "the daemon has no log: "+p.paths.Log()+" cannot be opened: "+err.Error())
		}
	}
	log := slog.New(slog.NewTextHandler(fault.Writer(logs), nil))
	trail := audit.New(p.paths.Audit(), func(err error) { log.Error("audit", "err", err) })
	trail.Journal = audit.JournalSocket
	defer func() { _ = trail.Close() }()

	store := new(profiles.Store)
	files := profiles.FilesOf(p.paths)
	settings := store.Latest(p.paths.Registry)
	onSettings := follow()
	onSettings(settings())
	route := func() profiles.Route { return settings().Route(os.Getenv) }
	caller := &vault.Caller{Backend: func() string { return settings().KeyringBackend }, Dir: p.paths.Keyring,
		StateDir: p.paths.State, Route: route} // it opens only sources, which name their registry
	flights, end := context.WithCancel(context.Background())
	defer end()
	sts := exchange.New(exchange.Options{Route: route})
	broker := session.New(flights, session.Config{
		Profiles: store,
		Vault:    caller,
		Logins:   caller,
		STS:      sts,
		Check:    sts.Check,
		Who:      session.Local(),
		BootTime: bootTime(),
		Process:  mfa.FromProcess,
		Run:      mfa.CredentialProcess,
		Log:      log,
	})
	caller.Notice = func(source, line string) {
		log.Info("vault", "source", source, "notice", line)
		broker.Tell(source, line)
	}
	caller.Adopted = func(source string) {
		broker.Adopted(source)
		_ = trail.Record(audit.Event{Event: "login", Source: source, Reason: "adopted from aws sso login",
			UID: os.Getuid(), PID: os.Getpid()})
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
		AWS:     awsCalls{settings, route, sts.ServerOffset},
		Audit:   trail,
		Log:     log,
		Version: version.String(),
		Window:  mfa.AskGUI,
		Confirm: mfa.Confirm,
		Notify:  notice.Show,
		Vault:   caller,

		CommandsDir: p.paths.PrivateFiles(),
		DoorsDir:    p.paths.Doors(),
		Helper:      helperProgram,

		LockFile:   lockfile.New(lock.File),
		Places:     lock,
		Events:     logind.Watch,
		BootTime:   bootTime(),
		StateDir:   p.paths.State,
		KeyringDir: p.paths.Keyring,
		Home:       paths.Home(),
		Setup:      func() wire.Setup { return p.setup(settings()) },
		AWSClock: func() (time.Duration, time.Time) {
			offset, at := sts.Clock()
			if byVault, later := caller.Clock(); later.After(at) {
				return byVault, later
			}
			return offset, at
		},
		OnSettings: onSettings,
		Warnings:   warnings,

		StartedBy: place.startedBy,
		Listener:  place.listener,
		Replaced:  place.replaced,
		ExitAfter: place.exitAfter,
	})
	ready := func() {
		log.Info("listening", "socket", p.paths.Socket, "pid", os.Getpid(), "version", version.String())
		if onDemand {
			_, _ = io.WriteString(p.stdout, client.ReadyLine)
			detach()
		}
	}
	return daemonError(p, d.Run(ctx, ready))
}

// daemonError maps the result of a daemon to an error.
func daemonError(p *program, err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, socket.ErrTaken):
		_, _ = fmt.Fprintln(p.stdout, "a daemon is running already")
		return nil
	case err != nil:
		return fault.New(fault.Failed, "%w", err)
	}
	return nil
}

// fileKeyring keeps the key of the file keyring for the daemon.
type fileKeyring struct{ *vault.Caller }

// Unlock implements daemon.Keyring.
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

// detach closes the pipes to the program that started us.
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

// maxLog is the size from which a starting daemon truncates the log, in bytes.
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
