//go:build linux

package grant

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"broker/internal/peer"
	"broker/internal/system"
	"broker/internal/wire"
)

// doorman answers nobody.
type doorman struct{}

func (doorman) Serve(context.Context, string, string, bool, *net.UnixListener) Visits {
	return doorman{}
}

func (doorman) Cut() {}

func (doorman) End() {}

func (doorman) Drain(time.Duration) {}

// doorIn is a door of this process, with its directory.
func doorIn(t *testing.T, k *Keeper, name string) Grant {
	t.Helper()
	dir := filepath.Join(k.DoorsDir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return Grant{ID: randomHex(16), Kind: Door, Owner: own(t), Profiles: []string{"dev"}, Program: "x", Dir: dir,
		Door: &Terms{Name: name}}
}

// TestAdoptDoors: the next daemon continues the doors of the record that can continue, and removes the directories of
// the others. A door that had two hours left on the clock since boot has no more, whatever the wall clock says.
func TestAdoptDoors(t *testing.T) {
	k := keeper(t, t.TempDir())
	var goOn, end []Grant
	add := func(list *[]Grant, name string, change func(*Grant)) {
		g := doorIn(t, k, name)
		change(&g)
		*list = append(*list, g)
	}
	add(&goOn, "a", func(*Grant) {})
	add(&goOn, "b", func(g *Grant) { g.Owner, g.Until = peer.Process{}, time.Now().Add(time.Hour) })
	add(&goOn, "c", func(g *Grant) { g.Until, g.Door.UntilBoot = time.Now().Add(time.Hour), 2*time.Hour })
	add(&end, "d", func(g *Grant) { g.Until = time.Now() })
	add(&end, "e", func(g *Grant) { g.Until, g.Door.UntilBoot = time.Now().Add(time.Hour), time.Hour })
	add(&end, "f", func(g *Grant) { g.Owner.Start = "earlier" })
	add(&end, "g", func(g *Grant) { g.Ended = true })
	leave(t, k, k.Socket, system.BootID(), append(slices.Clone(goOn), end...)...)
	k.Begin(k.life, Sockets{})
	for _, g := range goOn {
		if info, err := os.Lstat(filepath.Join(g.Dir, wire.DoorSocket)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(g.Door.Name, info, err)
		}
	}
	for _, g := range end {
		if _, err := os.Lstat(g.Dir); !os.IsNotExist(err) {
			t.Error(g.Door.Name, "stays", err)
		}
	}
	if list := k.Doors(); len(list) != len(goOn) || list[0].Name != "a" || list[0].PID != os.Getpid() {
		t.Errorf("%+v", list)
	}
	k.Stop(0)
}

// TestDoorsOfOthers: the directories of a daemon on another socket go if that daemon has ended, and stay otherwise.
func TestDoorsOfOthers(t *testing.T) {
	for _, running := range []bool{true, false} {
		k := keeper(t, t.TempDir())
		g := doorIn(t, k, "a")
		socket := filepath.Join(k.StateDir, "run", "other")
		if running {
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}
		leave(t, k, socket, system.BootID(), g)
		k.Begin(k.life, Sockets{})
		if _, err := os.Lstat(g.Dir); running != (err == nil) {
			t.Errorf("running %t: %v", running, err)
		}
		if len(k.Doors()) != 0 {
			t.Errorf("%+v", k.Doors())
		}
		k.Stop(0)
	}
}
