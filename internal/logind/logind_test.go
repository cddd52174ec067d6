//go:build linux

package logind

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"broker/internal/testbus"
)

// patience is the timeout for actions that take no time on an idle machine.
const patience = time.Minute

// machine is a system bus with a fake logind that implements what we use.
type machine struct {
	t    *testing.T
	dir  string
	bus  *exec.Cmd
	conn *dbus.Conn // logind's

	mu       sync.Mutex
	inhibits []*os.File // our ends of the inhibitors that were given out
	files    []*os.File // closed at the end
	users    map[dbus.ObjectPath]uint32
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, users: map[dbus.ObjectPath]uint32{}}
	t.Cleanup(func() {
		m.stopBus()
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, f := range m.files {
			_ = f.Close()
		}
		_ = os.RemoveAll(dir)
	})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", testbus.Address(m.dir))
	return m
}

func (m *machine) startBus() { m.bus = testbus.Start(m.t, m.dir) }

func (m *machine) stopBus() {
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
	if m.bus != nil {
		_ = m.bus.Process.Kill()
		_ = m.bus.Wait()
		m.bus = nil
	}
}

// Inhibit is logind's method. The inhibitor is one end of a pipe; closing it releases it.
func (m *machine) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "sleep" || who != "broker" || why == "" || mode != "delay" {
		return 0, dbus.MakeFailedError(fmt.Errorf("asked for %s %s %s %s", what, who, why, mode))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	fd := dbus.UnixFD(w.Fd())
	m.mu.Lock()
	m.inhibits = append(m.inhibits, w)
	m.files = append(m.files, r, w)
	m.mu.Unlock()
	return fd, nil
}

// sessions answers for the properties of sessions.
type sessions struct {
	m    *machine
	path dbus.ObjectPath
}

func (s sessions) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	uid, ok := s.m.users[s.path]
	if !ok || iface != session || property != "User" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no %s of %s", property, s.path))
	}
	return dbus.MakeVariant(struct {
		UID  uint32
		Path dbus.ObjectPath
	}{uid, "/org/freedesktop/login1/user/_1"}), nil
}

// startLogind connects logind to the bus.
func (m *machine) startLogind() {
	m.t.Helper()
	conn, err := dbus.Connect(testbus.Address(m.dir))
	if err == nil {
		err = conn.Export(m, managerPath, manager)
	}
	if err == nil {
		_, err = conn.RequestName(name, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.conn = conn
}

// session is a session of a user; with uid < 0, it does not answer.
func (m *machine) session(id string, uid int) dbus.ObjectPath {
	path := dbus.ObjectPath(sessionPaths + "/" + id)
	if uid >= 0 {
		m.mu.Lock()
		m.users[path] = uint32(uid)
		m.mu.Unlock()
		if err := m.conn.Export(sessions{m, path}, path, properties); err != nil {
			m.t.Fatal(err)
		}
	}
	return path
}

func (m *machine) emit(path dbus.ObjectPath, signal string, args ...any) {
	m.t.Helper()
	if err := m.conn.Emit(path, signal, args...); err != nil {
		m.t.Fatal(err)
	}
}

// inhibited returns how many inhibitors are held. Watch runs in this process, so each such pipe has three
// descriptors.
func (m *machine) inhibited() (held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := map[string]int{}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			count[to]++
		}
	}
	for _, w := range m.inhibits {
		to, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
		if count[to] == 3 {
			held++
		}
	}
	return held
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// watcher is a running Watch.
type watcher struct {
	locks    chan string
	troubles chan error
	end      context.CancelFunc
	ended    chan struct{}
}

func watch(t *testing.T, m *machine, on ...string) *watcher {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	w := &watcher{make(chan string, 100), make(chan error, 1000), end, make(chan struct{})}
	go func() {
		defer close(w.ended)
		Watch(ctx, on, func(reason string) {
			if reason == Suspend && m.inhibited() != 1 {
				reason = "suspend, too late: the machine may sleep already"
			}
			w.locks <- reason
		}, func(err error) { w.troubles <- err })
	}()
	t.Cleanup(func() {
		end()
		select {
		case <-w.ended:
		case <-time.After(patience):
			t.Error("timed out waiting for the end")
		}
	})
	return w
}

func (w *watcher) trouble(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.troubles:
		return err
	case <-time.After(patience):
		t.Fatal("trouble was not called")
		return nil
	}
}

// works waits until it listens.
func (w *watcher) works(t *testing.T) {
	t.Helper()
	for w.trouble(t) != nil {
	}
}

func (w *watcher) locked(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-w.locks:
		if got != want {
			t.Fatalf("locked for %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatal("lock was not called")
	}
}

func TestSuspend(t *testing.T) {
	m := newMachine(t)
	m.startBus()
	m.startLogind()
	mine := m.session("_31", os.Getuid())
	w := watch(t, m, Suspend)
	w.works(t)
	until(t, "a moment before the sleep is granted", func() bool { return m.inhibited() == 1 })
	for range 3 {
		m.emit(mine, lockSignal) // not watched
		m.emit(managerPath, sleepSignal, true)
		w.locked(t, Suspend)
		until(t, "the machine may sleep", func() bool { return m.inhibited() == 0 })
		m.emit(managerPath, sleepSignal, false)
		until(t, "the next sleep is waited for", func() bool { return m.inhibited() == 1 })
	}
	w.end()
	<-w.ended
	until(t, "nothing is held at the end", func() bool { return m.inhibited() == 0 })
}

// TestEndAtInhibitor: an inhibitor that arrives at the moment of the end is released.
func TestEndAtInhibitor(t *testing.T) {
	m := newMachine(t)
	m.startBus()
	m.startLogind()
	for range 30 {
		w := watch(t, m, Suspend)
		for m.inhibited() == 0 { // it arrives in this process before Watch has it
			runtime.Gosched()
		}
		w.end()
		<-w.ended
		if m.inhibited() != 0 {
			t.Fatal("it is still held")
		}
	}
}

// TestScreen: locks of the screens of our sessions are reported, however they were locked. Those of other users,
// and forged signals on the bus, are ignored.
func TestScreen(t *testing.T) {
	m := newMachine(t)
	m.startBus()
	m.startLogind()
	mine, other := m.session("_31", os.Getuid()), m.session("_32", os.Getuid()+1)
	w := watch(t, m, Screen)
	w.works(t)
	if m.inhibited() != 0 {
		t.Error("sleep is delayed without need")
	}
	hint := func(path dbus.ObjectPath, iface, property string, locked bool) {
		m.emit(path, changedSignal, iface, map[string]dbus.Variant{property: dbus.MakeVariant(locked)}, []string{})
	}
	forger, err := dbus.Connect(testbus.Address(m.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forger.Close() }()
	// These are ignored.
	m.emit(other, lockSignal)
	hint(other, session, "LockedHint", true)
	hint(mine, session, "LockedHint", false)
	hint(mine, session, "IdleHint", true)
	hint(mine, session+".Other", "LockedHint", true)
	m.emit(mine, session+".Unlock")
	m.emit(managerPath, sleepSignal, true)
	m.emit("/org/freedesktop/login1/seat/seat0", lockSignal)
	if err := forger.Emit(mine, lockSignal); err != nil {
		t.Fatal(err)
	}
	for _, name := range w.names(m) { // sent directly to us, so that no match applies
		msg := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(mine), dbus.FieldInterface: dbus.MakeVariant(session),
			dbus.FieldMember: dbus.MakeVariant("Lock"), dbus.FieldDestination: dbus.MakeVariant(name),
		}}
		if call := forger.Send(msg, nil); call != nil && call.Err != nil {
			t.Fatal(call.Err)
		}
	}
	// The bus keeps the order of messages of one connection: the forged signal has arrived before the next call is
	// answered.
	if err := forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-w.locks:
		t.Fatalf("locked for %q", got)
	default:
	}
	// These are reported.
	m.emit(mine, lockSignal)
	w.locked(t, Screen)
	hint(mine, session, "LockedHint", true)
	w.locked(t, Screen)
	m.emit(m.session("gone", -1), lockSignal) // if in doubt, it is ours
	w.locked(t, Screen)
	select {
	case got := <-w.locks:
		t.Errorf("locked once too often: %q", got)
	default:
	}
}

// names returns the connections on the bus that belong neither to logind nor to the bus itself.
func (w *watcher) names(m *machine) (list []string) {
	var all []string
	if err := m.conn.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&all); err != nil {
		m.t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasPrefix(n, ":") && n != m.conn.Names()[0] {
			list = append(list, n)
		}
	}
	return list
}

// TestBusComesAndGoes: without a bus or logind, and when either ends, Watch reports the trouble, and works once
// they are there.
func TestBusComesAndGoes(t *testing.T) {
	m := newMachine(t)
	w := watch(t, m, Suspend, Screen)
	says := func(any ...string) {
		t.Helper()
		if err := w.trouble(t); err == nil ||
			!slices.ContainsFunc(any, func(text string) bool { return strings.Contains(err.Error(), text) }) {
			t.Fatalf("said %v, want %q", err, any)
		}
	}
	says("connect to the system bus")
	m.startBus()
	for err := w.trouble(t); err == nil || !strings.Contains(err.Error(), "subscribe to systemd-logind"); err = w.trouble(t) {
	}
	m.startLogind()
	w.works(t)
	m.emit(managerPath, sleepSignal, true)
	w.locked(t, Suspend)

	_ = m.conn.Close()
	says("logind ended")
	m.startLogind()
	mine := m.session("_31", os.Getuid())
	w.works(t)
	m.emit(mine, lockSignal)
	w.locked(t, Screen)

	m.stopBus()
	says("closed the connection", "logind ended") // whichever of the two connections the bus closes first
	m.startBus()
	m.startLogind()
	w.works(t)
	m.emit(managerPath, sleepSignal, true)
	w.locked(t, Suspend)
}

// TestSilentBus: Watch ends in time although the bus accepts connections and never answers.
func TestSilentBus(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("unix", filepath.Join(m.dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	w := watch(t, m, Suspend)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := w.trouble(t); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("said %v", err)
	}
}
