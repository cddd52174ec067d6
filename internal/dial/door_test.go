//go:build unix

package dial

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"broker/internal/peer"
	"broker/internal/testproc"
)

// TestMain runs the tests, or listens on a socket until stdin ends.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		if _, err := net.Listen("unix", os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_ = os.Chmod(os.Args[2], 0o666)
		fmt.Println("ready")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		os.Exit(0)
	}
	os.Exit(testproc.Run(m))
}

const other, third = 12345, 12346

// place creates a directory with an owner and a mode; the directories above are root's.
func place(t *testing.T, name string, uid int, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "base")
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(dir, 0o755), os.Chown(path, uid, uid),
		os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTrustOfADoor checks in which directories a listener of another uid is believed.
func TestTrustOfADoor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: creating files of another user needs root")
	}
	us, partly := view{ours: 0}, view{ours: 0, partial: true}
	user := view{ours: third}
	in := func(above, door string) string { return filepath.Join(above, door) }
	make := func(above string, uid int, mode os.FileMode) string {
		path := in(above, "door")
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, uid, uid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to string, uid int, above string) string {
		path := filepath.Join(above, "link")
		if err := errors.Join(os.Symlink(to, path), os.Lchown(path, uid, uid)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sticky := os.FileMode(0o777) | os.ModeSticky
	good := place(t, "run", other, 0o755)
	for name, tt := range map[string]struct {
		view     view
		dir      string
		listener int
		why      string // empty if it is trusted
	}{
		"a mount in a container":                       {us, good, other, ""},
		"seen by a user of the container":              {user, good, other, ""},
		"closed to others":                             {us, place(t, "run", other, 0o700), other, ""},
		"our directory":                                {us, place(t, "run", 0, 0o700), other, ""},
		"our directory, as a user":                     {user, place(t, "run", third, 0o755), other, ""},
		"another listener":                             {us, good, third, "uid 12346 listens in a directory of uid 12345"},
		"root listens, but the directory is another's": {user, good, 0, "uid 0 listens in a directory"},
		"a group can write":                            {us, place(t, "run", other, 0o775), other, "others can write to it (mode 0775)"},
		"everybody can write":                          {us, place(t, "run", other, sticky), other, "others can write to it"},
		"ours, but open":                               {us, place(t, "run", 0, 0o777), other, "others can write to it"},
		"in a sticky directory":                        {us, make(place(t, "tmp", 0, sticky), other, 0o755), other, "everybody can create such"},
		"ours in a sticky one":                         {us, make(place(t, "tmp", 0, sticky), 0, 0o755), other, ""},
		"in an open directory":                         {us, make(place(t, "tmp", 0, 0o777), 0, 0o755), other, "others can write to "},
		"below another user's":                         {user, make(place(t, "home", other, 0o755), other, 0o755), other, "belongs to another user"},
		"by our link":                                  {us, link(good, 0, place(t, "etc", 0, 0o755)), other, ""},
		"by a link of another":                         {us, link(good, other, place(t, "etc", 0, 0o755)), other, "belongs to another user"},
		// In a namespace that knows only us, all users of the machine look the same.
		"unknown users":                 {partly, place(t, "run", unmapped, 0o755), unmapped, ""},
		"unknown users, nested":         {partly, make(place(t, "mnt", unmapped, 0o755), unmapped, 0o755), unmapped, ""},
		"unknown users, sticky":         {partly, make(place(t, "tmp", unmapped, sticky), unmapped, 0o755), unmapped, "everybody can create such"},
		"nobody, where all are known":   {us, make(place(t, "mnt", unmapped, 0o755), unmapped, 0o755), unmapped, "belongs to another user"},
		"we are nobody, sticky":         {view{unmapped, true}, make(place(t, "tmp", 0, sticky), unmapped, 0o755), unmapped, "everybody can create such"},
		"there is no such directory":    {us, filepath.Join(good, "none"), other, "no such file"},
		"a path that is not absolute":   {us, "door", other, "no such file"},
		"the directory of another user": {view{ours: other}, place(t, "run", third, 0o755), other, "uid 12345 listens in a directory of uid 12346"},
	} {
		err := tt.view.trusts(tt.dir, tt.listener)
		if (err == nil) != (tt.why == "") || err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v, want %q", name, err, tt.why)
		}
	}
	for uid, want := range map[int]bool{unmapped: false, 0: false} {
		if (view{unmapped, true}).isOurs(uid) != want {
			t.Errorf("as nobody in a namespace, uid %d: ours is %v", uid, !want)
		}
	}
	if !(view{ours: unmapped}).isOurs(unmapped) {
		t.Error("nobody is not nobody, where all users are known")
	}
}

// TestDoorOfAnotherUser connects to real listeners of another uid. Dial, for the socket of the daemon, refuses each.
func TestDoorOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: another user needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "listener")
	b, err := os.ReadFile(self)
	if err == nil {
		err = errors.Join(os.WriteFile(copied, b, 0o755), os.Chmod(filepath.Dir(filepath.Dir(copied)), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dir string
		why error
	}{
		"theirs, as mounted": {place(t, "run", other, 0o755), nil},
		"theirs, open":       {place(t, "run", other, 0o777), peer.ErrStranger},
	} {
		if err := os.Chmod(filepath.Dir(filepath.Dir(filepath.Dir(tt.dir))), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(copied, "listen", filepath.Join(tt.dir, "socket"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
		hold, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		said, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = hold.Close(); _ = cmd.Wait() })
		if line, _ := bufio.NewReader(said).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%s: the listener: %q", name, line)
		}
		conn, err := Door(t.Context(), tt.dir, "socket")
		if (err == nil) != (tt.why == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		}
		if _, err := Dial(t.Context(), filepath.Join(tt.dir, "socket")); !errors.Is(err, peer.ErrStranger) {
			t.Errorf("%s: the daemon's own rule: %v", name, err)
		}
	}
	if _, err := Door(t.Context(), t.TempDir(), "socket"); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
}
