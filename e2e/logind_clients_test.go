//go:build clients

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"broker/internal/testbus"
)

// logind is a system bus with python-dbusmock's logind on it.
type logind struct {
	t    *testing.T
	conn *dbus.Conn
}

const (
	login1  = "org.freedesktop.login1"
	mock    = "org.freedesktop.DBus.Mock"
	manager = dbus.ObjectPath("/org/freedesktop/login1")
)

func startLogind(t *testing.T) (l *logind, address string) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/python3/dist-packages/dbusmock"); err != nil {
		missing(t, "python3-dbusmock")
	}
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket
	must(t, err)
	address = testbus.Address(dir)
	bus := testbus.Start(t, dir)
	t.Cleanup(func() {
		_ = bus.Process.Kill()
		_ = bus.Wait()
		_ = os.RemoveAll(dir)
	})
	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address)
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	l = &logind{t: t}
	until(t, "the bus answers", func() bool {
		l.conn, err = dbus.Connect(address)
		return err == nil
	})
	t.Cleanup(func() { _ = l.conn.Close() })
	run("/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "logind")
	until(t, "logind is there", func() bool {
		return l.conn.Object(login1, manager).Call("org.freedesktop.DBus.Peer.Ping", 0).Err == nil
	})
	return l, address
}

func (l *logind) call(path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	l.t.Helper()
	c := l.conn.Object(login1, path).Call(method, 0, args...)
	must(l.t, c.Err)
	return c
}

// inhibitors lists the programs that delay a sleep.
func (l *logind) inhibitors() (list []string) {
	l.t.Helper()
	var all []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	must(l.t, l.call(manager, login1+".Manager.ListInhibitors").Store(&all))
	for _, i := range all {
		list = append(list, i.What+" "+i.Who+" "+i.Mode)
	}
	return list
}

// TestClientsLogind runs the real daemon on a real bus: suspend and a locked screen lock it in time, and the next
// daemon is locked, too.
func TestClientsLogind(t *testing.T) {
	h := demo(t)
	l, address := startLogind(t)
	must(t, h.stopDaemon())
	h.startAsUnit(t, "DBUS_SYSTEM_BUS_ADDRESS="+address) // the system bus address does not come from a shell
	h.credentials(t, "product_prod_paul")
	if got := l.inhibitors(); len(got) > 0 {
		t.Errorf("without lock_on the daemon asks logind for %v", got)
	}
	setting := func(line string) {
		t.Helper()
		text, err := os.ReadFile(h.registry())
		must(t, err)
		kept := strings.Join(strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' }), "\n")
		var lines []string
		for _, l := range strings.Split(kept, "\n") {
			if !strings.HasPrefix(l, "lock_on") {
				lines = append(lines, l)
			}
			if l == "[settings]" && line != "" {
				lines = append(lines, line)
			}
		}
		must(t, h.write(h.registry(), strings.Join(lines, "\n")+"\n"))
	}
	locked := func() bool {
		s, err := h.status()
		must(t, err)
		return s.Locked
	}
	refused := func() {
		t.Helper()
		until(t, "Broker is locked", locked)
		if r := h.run("credproc", "product_prod_paul"); r.code != 7 || r.stdout != "" {
			t.Error(r)
		}
		h.ok(t, "broker", "unlock")
		must(t, h.freshCodes())
		h.credentials(t, "product_prod_paul")
	}
	sleep := func(about bool) {
		l.call(manager, mock+".EmitSignal", login1+".Manager", "PrepareForSleep", "b", []dbus.Variant{dbus.MakeVariant(about)})
	}

	setting("lock_on = suspend, screen")
	until(t, "the daemon asks to delay the sleep", func() bool { return strings.Join(l.inhibitors(), ", ") == "sleep broker delay" })
	sleep(true)
	until(t, "the machine may sleep", func() bool { return len(l.inhibitors()) == 0 })
	if !locked() {
		t.Error("the machine sleeps, but Broker is not locked")
	}
	sleep(false)
	until(t, "the daemon asks to delay the next sleep", func() bool { return len(l.inhibitors()) == 1 })
	refused()

	uid := uint32(os.Getuid())
	l.call(manager, mock+".AddSession", "c1", "seat0", uid, "paul", true)
	l.call(manager, mock+".AddSession", "c2", "seat1", uid+1, "eve", true)
	session := func(id string) dbus.ObjectPath { return manager + "/session/" + dbus.ObjectPath(id) }
	l.call(session("c2"), mock+".EmitSignal", login1+".Session", "Lock", "", []dbus.Variant{})
	l.call(session("c1"), mock+".EmitSignal", login1+".Session", "Lock", "", []dbus.Variant{})
	refused()

	setting("")
	until(t, "the daemon asks nothing of logind", func() bool { return len(l.inhibitors()) == 0 })
	setting("lock_on = suspend")
	until(t, "the daemon asks logind again", func() bool { return len(l.inhibitors()) == 1 })
	must(t, h.stopDaemon())
	until(t, "nothing is left of the daemon", func() bool { return len(l.inhibitors()) == 0 })

	audit, err := os.ReadFile(h.state("audit.log"))
	must(t, err)
	if a, b := strings.Count(string(audit), `"reason":"suspend"`), strings.Count(string(audit), `"reason":"screen"`); a != 1 || b != 1 {
		t.Errorf("the audit log has %d locks for a suspend and %d for a screen", a, b)
	}
}
