package logind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.login1.html
const (
	name          = "org.freedesktop.login1"
	managerPath   = "/org/freedesktop/login1"
	sessionPaths  = "/org/freedesktop/login1/session"
	manager       = name + ".Manager"
	session       = name + ".Session"
	properties    = "org.freedesktop.DBus.Properties"
	ownerChanged  = "org.freedesktop.DBus.NameOwnerChanged"
	sleepSignal   = manager + ".PrepareForSleep"
	lockSignal    = session + ".Lock"
	changedSignal = properties + ".PropertiesChanged"
)

// listener is one connection to the bus.
type listener struct {
	conn  *dbus.Conn
	owner string   // logind's unique name on the bus: signals from others are ignored
	delay *os.File // delays sleep while it is open; nil for no delay
}

// listen handles one connection from its start to its end. It calls up once no event can be missed any more.
func listen(ctx context.Context, on []string, lock func(reason string), up func()) error {
	// The connection lives until it is closed: see delaySleep.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	conn, err := connect(ctx, life, end)
	if err != nil {
		return fmt.Errorf("cannot connect to the system bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	l := &listener{conn: conn}
	defer l.letSleep()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := l.subscribe(ctx, on); err != nil {
		return fmt.Errorf("cannot subscribe to systemd-logind: %w", err)
	}
	suspend := slices.Contains(on, Suspend)
	if suspend {
		if err := l.delaySleep(ctx); err != nil {
			return fmt.Errorf("systemd-logind does not allow a delay before sleep: %w", err)
		}
	}
	up()
	for {
		var s *dbus.Signal
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s = <-signals:
		}
		switch {
		case s == nil:
			return errors.New("the system bus closed the connection")
		case s.Name == ownerChanged && s.Sender == "org.freedesktop.DBus":
			return errors.New("systemd-logind ended or was restarted")
		case s.Sender != l.owner:
		case s.Name == sleepSignal && suspend:
			if about, ok := first[bool](s); ok && about {
				lock(Suspend)
				l.letSleep()
			} else if err := l.delaySleep(ctx); err != nil {
				return fmt.Errorf("systemd-logind does not allow a delay before sleep: %w", err)
			}
		case isLock(s) && l.isOurs(ctx, s.Path):
			lock(Screen)
		}
	}
}

// connect gives up after callTimeout, also if the bus is stopped or does not answer.
func connect(ctx, life context.Context, end func()) (*dbus.Conn, error) {
	type result struct {
		conn *dbus.Conn
		err  error
	}
	done := make(chan result, 1)
	timeout, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	go func() {
		conn, err := dbus.ConnectSystemBus(dbus.WithContext(life), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-timeout.Done():
		end() // close the connection, whatever it waits for
		return nil, errors.New("no answer")
	}
}

// call calls a method of an object of logind.
func (l *listener) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.conn.Object(name, path).CallWithContext(ctx, method, 0, args...)
}

// subscribe asks the bus for the signals of the events in on.
func (l *listener) subscribe(ctx context.Context, on []string) error {
	matches := [][]dbus.MatchOption{{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)}}
	if slices.Contains(on, Suspend) {
		matches = append(matches, []dbus.MatchOption{dbus.WithMatchSender(name), dbus.WithMatchObjectPath(managerPath),
			dbus.WithMatchInterface(manager), dbus.WithMatchMember("PrepareForSleep")})
	}
	if slices.Contains(on, Screen) {
		// Lock requests that a screen be locked (loginctl, the lid, idle time); LockedHint says that a desktop
		// locked it.
		matches = append(matches,
			[]dbus.MatchOption{dbus.WithMatchSender(name), dbus.WithMatchPathNamespace(sessionPaths),
				dbus.WithMatchInterface(session), dbus.WithMatchMember("Lock")},
			[]dbus.MatchOption{dbus.WithMatchSender(name), dbus.WithMatchPathNamespace(sessionPaths),
				dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchArg(0, session)})
	}
	// Do this before adding the matches: it may start logind, which would look like a restart of logind.
	if err := l.call(ctx, managerPath, "org.freedesktop.DBus.Peer.Ping").Err; err != nil {
		return err
	}
	timeout, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, m := range matches {
		if err := l.conn.AddMatchSignalContext(timeout, m...); err != nil {
			return err
		}
	}
	return l.conn.BusObject().CallWithContext(timeout, "org.freedesktop.DBus.GetNameOwner", 0, name).Store(&l.owner)
}

// delaySleep takes an inhibitor that delays sleep. It waits for the answer even if ctx ends: nobody would close an
// inhibitor that comes later.
func (l *listener) delaySleep(ctx context.Context) error {
	l.letSleep()
	var fd dbus.UnixFD
	call := l.call(context.WithoutCancel(ctx), managerPath, manager+".Inhibit", "sleep", "broker", "lock before sleep", "delay")
	if err := call.Store(&fd); err != nil {
		return err
	}
	l.delay = os.NewFile(uintptr(fd), "inhibitor")
	return nil
}

// letSleep releases the inhibitor.
func (l *listener) letSleep() {
	if l.delay != nil {
		_ = l.delay.Close()
		l.delay = nil
	}
}

// isLock reports whether a signal says that a screen is locked, or shall be.
func isLock(s *dbus.Signal) bool {
	if !strings.HasPrefix(string(s.Path), sessionPaths+"/") {
		return false
	}
	if s.Name == lockSignal {
		return true
	}
	if s.Name != changedSignal || len(s.Body) < 2 {
		return false
	}
	changed, _ := s.Body[1].(map[string]dbus.Variant)
	locked, _ := changed["LockedHint"].Value().(bool)
	return locked
}

// isOurs reports whether a session belongs to our uid. If logind does not say, it returns true: a needless lock
// costs less than a missed one.
func (l *listener) isOurs(ctx context.Context, path dbus.ObjectPath) bool {
	var user struct {
		UID  uint32
		Path dbus.ObjectPath
	}
	var v dbus.Variant
	if err := l.call(ctx, path, properties+".Get", session, "User").Store(&v); err != nil {
		return true
	}
	if err := v.Store(&user); err != nil {
		return true
	}
	return int(user.UID) == os.Getuid()
}

func first[T any](s *dbus.Signal) (T, bool) {
	var none T
	if len(s.Body) == 0 {
		return none, false
	}
	v, ok := s.Body[0].(T)
	return v, ok
}
