//go:build linux

package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// The rule for all grants, whatever their delivery: a logout of the source shuts a grant until the next login of
// that source; a lock shuts it until the unlock. A daemon that ends or crashes, and the next daemon, change no
// grant, except that sections leave the shared credentials file while no daemon runs. A reply to `get` is not a
// grant: nothing is kept of it.
//
// renews says when the user of a grant sees a new session after the old one has ended: at "once", or "soon".
var renews = map[string]string{"file": "soon", "server": "once", "published": "soon", "standing": "soon", "door": "once"}

// delivery is one way in which a grant reaches its user.
type delivery interface {
	put(w *world, g *grantModel) wire.Response // asks the daemon for it
	see(w *world, g *grantModel) string        // the access key id that its user gets now; "" for none
	take(w *world, g *grantModel)              // ends it
}

var deliveries = map[string]delivery{
	"file": inFiles{}, "server": atEndpoint{}, "published": inShared{}, "standing": inShared{},
	"door": overDoors{},
}

// grantModel is the model's state of a grant.
type grantModel struct {
	way, profile, source string
	pid                  int  // of its owner; 0 if it has none
	born                 int  // the epoch in which it was made
	shut                 bool // by a logout
	over                 bool
	off                  bool // unpublished, although publish = true is set
	left                 bool // an old session may still be in its delivery, see wants

	files    wire.Files    // of a file grant
	endpoint wire.Endpoint // of a server grant
	door     wire.Door     // of a door
}

// model says what users and status must see.
type model struct {
	locked bool
	epoch  int // counts the clock jumps; each is longer than a role's session
	// typedHours is the age of the MFA session of the source "typed", which needs a person; negative if there is
	// none.
	typedHours int
	grants     []*grantModel
}

// has reports whether a session of a source can be opened without a person.
func (m *model) has(source string) bool { return source != "typed" || m.typedHours >= 0 }

// wants says whether the user of a grant must see a session, and whether it may. The two differ where the test
// cannot know: it can set only the clock since boot, but sessions in files expire by the wall clock.
func (m *model) wants(g *grantModel) (must, may bool) {
	switch {
	case m.locked || g.shut || g.over || g.off:
		return false, false
	case m.has(g.source):
		return true, true
	}
	return false, g.left
}

func (m *model) logout(source string) {
	for _, g := range m.grants {
		if source == "" || g.source == source {
			g.shut, g.left = true, false
		}
	}
	if source != "security" {
		m.typedHours = -1
	}
}

// login opens the grants that a logout has shut.
func (m *model) login(source string) {
	for _, g := range m.grants {
		if g.source == source {
			g.shut = false
		}
	}
	if source == "typed" {
		m.typedHours = max(m.typedHours, 0)
	}
}

func (m *model) lock() {
	m.locked, m.typedHours = true, -1
	for _, g := range m.grants {
		g.left = false
	}
}

func (m *model) restart(how string) {
	m.typedHours = -1
	for _, g := range m.grants {
		g.left = renews[g.way] == "soon" && !m.locked && !(how == "stop" && g.pid == 0)
	}
}

func (m *model) jump(hours int) {
	m.epoch++
	if m.typedHours >= 0 {
		if m.typedHours += hours; m.typedHours >= 12 {
			m.typedHours = -1
		}
	}
	for _, g := range m.grants {
		g.left = renews[g.way] == "soon"
	}
}

func (m *model) died(pid int) {
	for _, g := range m.grants {
		g.over = g.over || g.pid == pid
	}
}

// unpublished removes a profile, or all if it is empty. It reports whether one was published.
func (m *model) unpublished(profile string) (found bool) {
	for _, g := range m.grants {
		if g.pid != 0 || g.over || g.off || profile != "" && g.profile != profile {
			continue
		}
		found = true
		g.off, g.over = g.way == "standing", g.way == "published"
	}
	return found
}

// added updates the model after an answered put.
func (m *model) added(g *grantModel) {
	if g.born = m.epoch; g.way == "standing" { // published by hand
		g.shut, g.off = false, false
		return
	}
	m.grants = slices.DeleteFunc(m.grants, func(old *grantModel) bool {
		return g.way == "published" && old.way == g.way && old.profile == g.profile // replaces the old one
	})
	for _, old := range m.grants {
		old.over = old.over || g.way == "server" && old.way == g.way && old.pid == g.pid // a process has one endpoint
	}
	m.grants = append(m.grants, g)
}

const grantRegistry = twoSources + `[profile dev]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security

[profile work]
role_arn = arn:aws:iam::444455556666:role/work
source_profile = typed

[profile dev-always]
role_arn = arn:aws:iam::444455556666:role/dev-always
source_profile = security
publish = true

[profile work-always]
role_arn = arn:aws:iam::444455556666:role/work-always
source_profile = typed
publish = true
`

// ownSection is the user's own section in the shared credentials file.
const ownSection = "[mine]\nregion = x\n"

// world is a daemon in its own process, its users, and the model.
type world struct {
	model
	t      *testing.T
	dir    string
	seed   uint64
	rnd    *rand.Rand
	daemon *player
	owners []*player
	hours  int  // how far the clock was set forward
	jumped bool // in this step
	trace  []string
	counts *tally
}

// tally counts what was seen, so that a test that saw nothing fails.
type tally struct {
	sync.Mutex
	n map[string]int
}

func (c *tally) add(what string) {
	c.Lock()
	defer c.Unlock()
	c.n[what]++
}

// player is a process of the test binary that plays a part.
type player struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func plays(t testing.TB, args ...string) *player {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &player{cmd: exec.Command(exe, args...)}
	p.cmd.Stderr = os.Stderr
	p.in, err = p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends a process and waits for its end.
func (p *player) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// ask lets a process ask the daemon, so that the answer is for that process.
func (p *player) ask(t testing.TB, req wire.Request) wire.Response {
	t.Helper()
	b, err := wire.EncodeRequest(&req)
	if err == nil {
		_, err = p.in.Write(b)
	}
	if err == nil {
		b, err = wire.ReadLine(p.out)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wire.DecodeResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return *resp
}

// playOwner forwards the requests of its standard input.
func playOwner(socket string) int {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		line, err = passOn(socket, line)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, _ = os.Stdout.Write(line)
	}
}

func passOn(socket string, line []byte) ([]byte, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(line); err != nil {
		return nil, err
	}
	return bufio.NewReader(conn).ReadBytes('\n')
}

// testClock is the file that holds the epoch, and by how many hours the clock since boot was set forward.
type testClock string

func (c testClock) read() (epoch, hours int) {
	text, err := os.ReadFile(string(c))
	if err == nil {
		_, err = fmt.Sscan(string(text), &epoch, &hours)
	}
	if err != nil {
		panic(err)
	}
	return epoch, hours
}

// datedAWS issues sessions whose access key ids contain the epoch. No key id is issued twice.
type datedAWS struct {
	*aws
	clock testClock
	given atomic.Int64
}

func (a *datedAWS) date(c session.Credentials, err error) (session.Credentials, error) {
	epoch, _ := a.clock.read()
	c.AccessKeyID = fmt.Sprintf("ASIA%04d%07d%05d", epoch, os.Getpid(), a.given.Add(1))
	return c, err
}

func (a *datedAWS) Open(ctx context.Context, source profiles.Source, call session.Call, code secret.String) (
	session.Credentials, error) {
	return a.date(a.aws.Open(ctx, source, call, code))
}

func (a *datedAWS) Assume(ctx context.Context, parent session.Credentials, call session.Call) (
	session.Credentials, error) {
	return a.date(a.aws.Assume(ctx, parent, call))
}

// playGrantDaemon is a daemon whose clock is set by a file. It ends with its standard input.
func playGrantDaemon(dir, how string) int {
	h := build(new(testing.B), dir, grantRegistry)
	h.Files.Credentials = filepath.Join(dir, "credentials")
	clock := testClock(filepath.Join(dir, "clock"))
	h.BootTime = func() time.Duration {
		_, hours := clock.read()
		return time.Since(h.started) + time.Duration(hours)*time.Hour
	}
	a := &datedAWS{aws: h.aws, clock: clock}
	h.Broker = session.New(context.Background(), session.Config{
		Profiles: h.Store, Vault: a, STS: a, Who: session.Who{User: "paul", Host: "host"}, BootTime: h.BootTime,
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	if how == "take-over" {
		left, _, err := Replace(ctx, paths.Paths{Socket: h.path}, "test")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		h.Listener, h.Replaced = left.Listener, left
	}
	if err := h.Run(ctx, func() { fmt.Println("ready") }); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) socket() string { return w.path("run/s") }

// begin starts a daemon.
func (w *world) begin(how string) {
	w.t.Helper()
	w.daemon = plays(w.t, "play-grant-daemon", w.dir, how)
	if line, _ := w.daemon.out.ReadString('\n'); line != "ready\n" {
		w.fail("the daemon says %q", line)
	}
}

func (w *world) ask(req wire.Request) wire.Response {
	w.t.Helper()
	l := connect(w.t, w.socket())
	defer func() { _ = l.Close() }()
	l.send(w.t, req)
	return l.read(w.t)
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s\nafter these steps:\n%s", w.seed, fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"))
}

// putForOwner lets a new process ask for a grant of its own.
func (w *world) putForOwner(g *grantModel, verb string) wire.Response {
	p := w.owner()
	g.pid = p.cmd.Process.Pid
	return p.ask(w.t, wire.Request{Verb: verb, Profile: g.profile})
}

// inFiles is `exec --mode file`.
type inFiles struct{}

func (inFiles) put(w *world, g *grantModel) wire.Response {
	r := w.putForOwner(g, wire.PrivateFiles)
	if r.Err == nil {
		g.files = *r.Files
	}
	return r
}

func (inFiles) see(w *world, g *grantModel) string { return w.keyIn(g.files.Credentials, g.profile) }

func (inFiles) take(w *world, g *grantModel) { w.end(g.pid) }

// atEndpoint is `exec --mode server`.
type atEndpoint struct{}

func (atEndpoint) put(w *world, g *grantModel) wire.Response {
	r := w.putForOwner(g, wire.Serve)
	if r.Err == nil {
		g.endpoint = *r.Endpoint
	}
	return r
}

func (atEndpoint) see(w *world, g *grantModel) string {
	host, _ := home(g.endpoint)
	status, body := parts(raw(w.t, host, request(g.endpoint)))
	var got struct{ AccessKeyID string }
	if status != 200 {
		if leaks(body) {
			w.fail("%s: status %d with %s", g.name(), status, body)
		}
		return ""
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.AccessKeyID == "" {
		w.fail("%s: %v: %s", g.name(), err, body)
	}
	return got.AccessKeyID
}

func (atEndpoint) take(w *world, g *grantModel) { w.end(g.pid) }

// overDoors is `exec --only`.
type overDoors struct{}

func (overDoors) put(w *world, g *grantModel) wire.Response {
	r := w.putForOwner(g, wire.OpenDoor)
	if r.Err == nil {
		g.door = *r.Door
	}
	return r
}

func (overDoors) see(w *world, g *grantModel) string {
	conn, err := net.Dial("unix", filepath.Join(g.door.Dir, wire.DoorSocket))
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	req, err := wire.EncodeRequest(&wire.Request{Verb: wire.Get, Profile: g.profile})
	if err != nil {
		w.fail("%v", err)
	}
	_, err = conn.Write(req)
	var b []byte
	if err == nil {
		b, err = wire.ReadLine(bufio.NewReader(conn))
	}
	if err != nil { // the door has ended just now
		return ""
	}
	resp, err := wire.DecodeResponse(b)
	switch {
	case err != nil:
		w.fail("%s: %v: %s", g.name(), err, b)
	case resp.Credential != nil:
		return resp.Credential.AccessKeyID
	}
	if leaks(string(b)) {
		w.fail("%s: refused with %s", g.name(), b)
	}
	return ""
}

func (overDoors) take(w *world, g *grantModel) { w.end(g.pid) }

// inShared is `publish`, and publish = true.
type inShared struct{}

func (inShared) put(w *world, g *grantModel) wire.Response {
	return w.ask(wire.Request{Verb: wire.Publish, Profile: g.profile})
}

func (inShared) see(w *world, g *grantModel) string { return w.keyIn(w.path("credentials"), g.profile) }

func (inShared) take(w *world, g *grantModel) {
	found := w.unpublished(g.profile)
	if r := w.ask(wire.Request{Verb: wire.Unpublish, Profile: g.profile}); (r.Err == nil) != found {
		w.fail("unpublish %s: %v", g.profile, r.Err)
	}
}

func (g *grantModel) name() string {
	return strings.TrimSuffix(fmt.Sprint(g.way, " ", g.profile, " ", g.pid), " 0")
}

// keyIn returns the access key id in a section of a file, or "".
func (w *world) keyIn(file, profile string) string {
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		w.fail("%v", err)
	}
	_, text, _ = bytes.Cut(append([]byte("\n"), text...), []byte("\n["+profile+"]\n"))
	text, _, _ = bytes.Cut(text, []byte("\n["))
	_, text, _ = bytes.Cut(text, []byte("aws_access_key_id = "))
	text, _, _ = bytes.Cut(text, []byte("\n"))
	return string(text)
}

// owner returns a living process: an existing or a new one.
func (w *world) owner() *player {
	if len(w.owners) > 0 && w.rnd.IntN(2) == 0 {
		return w.owners[w.rnd.IntN(len(w.owners))]
	}
	p := plays(w.t, "play-owner", w.socket())
	w.owners = append(w.owners, p)
	return p
}

// end kills an owner.
func (w *world) end(pid int) {
	w.died(pid)
	w.owners = slices.DeleteFunc(w.owners, func(p *player) bool {
		if p.cmd.Process.Pid == pid {
			p.kill()
			return true
		}
		return false
	})
}

// setClock sets the clock of the daemon forward.
func (w *world) setClock(hours int) {
	w.hours += hours
	draft := w.path("clock.new")
	if err := os.WriteFile(draft, fmt.Appendln(nil, w.epoch, w.hours), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(draft, w.path("clock")); err != nil {
		w.t.Fatal(err)
	}
}

// wrong compares the world with the model. bad lists what must not exist, late what does not exist yet.
func (w *world) wrong() (bad, late []string) {
	listed, shown := map[string]int{}, false
	for _, g := range w.grants {
		must, may := w.wants(g)
		key, want := deliveries[g.way].see(w, g), fmt.Sprintf("ASIA%04d", w.epoch)
		switch now := strings.HasPrefix(key, want); {
		case key != "" && !may:
			bad = append(bad, g.name()+" is visible: "+key)
		case key != "" && !now && renews[g.way] == "once":
			bad = append(bad, g.name()+" gives a session that has ended: "+key)
		case must && !now:
			late = append(late, fmt.Sprintf("%s has %q, not of %s", g.name(), key, want))
		}
		shown = shown || g.pid == 0 && may
		bad = append(bad, w.copies(g)...)
		if !g.over && !g.off {
			listed[g.name()]++
		}
	}
	status := w.ask(wire.Request{Verb: wire.State}).Status
	if status.Locked != w.locked {
		bad = append(bad, fmt.Sprint("status says locked: ", status.Locked))
	}
	for _, c := range status.Commands {
		listed[fmt.Sprint(c.Mode, " ", strings.Join(c.Profiles, ","), " ", c.PID)]--
	}
	for _, d := range status.Doors {
		listed[fmt.Sprint("door ", strings.Join(d.Profiles, ","), " ", d.PID)]--
	}
	for _, p := range status.Published {
		i := slices.IndexFunc(w.grants, func(g *grantModel) bool {
			return g.pid == 0 && g.profile == p.Profile && !g.over && !g.off
		})
		if i < 0 {
			late = append(late, "status lists "+p.Profile)
			continue
		}
		g := w.grants[i]
		listed[g.name()]--
		switch must, may := w.wants(g); {
		case must && p.AccessKeyID == "", !may && p.AccessKeyID != "", !must && p.Error == "" && !w.locked:
			late = append(late, fmt.Sprintf("status says of %s: key %q, error %q", g.name(), p.AccessKeyID, p.Error))
		}
	}
	for name, n := range listed {
		if n != 0 {
			late = append(late, fmt.Sprintf("status misses %s %d times", name, n))
		}
	}
	text, err := os.ReadFile(w.path("credentials"))
	if err != nil || !strings.HasSuffix(string(text), ownSection) {
		bad = append(bad, fmt.Sprintf("the section of the person has changed: %v\n%s", err, text))
	}
	if !shown && string(text) != ownSection {
		late = append(late, fmt.Sprintf("the credentials file is not as it was: %q", text))
	}
	if w.locked {
		bad = append(bad, w.secrets()...)
	}
	return bad, late
}

// copies returns published sessions in the files of a command whose grant no longer shows one.
func (w *world) copies(of *grantModel) (found []string) {
	if of.way != "file" || of.over {
		return nil
	}
	for _, g := range w.grants {
		if _, may := w.wants(g); g.pid != 0 || may || g.profile == of.profile {
			continue
		}
		if key := w.keyIn(of.files.Credentials, g.profile); key != "" &&
			!slices.ContainsFunc(w.grants, func(o *grantModel) bool {
				_, may := w.wants(o)
				return o.pid == 0 && o.profile == g.profile && may
			}) {
			found = append(found, fmt.Sprintf("%s has a copy of %s: %s", of.name(), g.name(), key))
		}
	}
	return found
}

// secrets returns the files that hold a session.
func (w *world) secrets() (found []string) {
	_ = filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if text, _ := os.ReadFile(path); bytes.Contains(text, []byte(sessionToken)) {
			found = append(found, "a session is in "+path)
		}
		return nil
	})
	return found
}

// check waits until everything is as the model says. Anything that must not be visible must never be visible. soon
// says that the daemon must notice a change first.
func (w *world) check(soon bool) {
	w.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		bad, late := w.wrong()
		if len(bad) > 0 && !soon || time.Now().After(limit) {
			w.fail("%s", strings.Join(append(bad, late...), "\n"))
		}
		if len(bad)+len(late) == 0 {
			return
		}
		if w.jumped && !w.locked && len(bad) == 0 {
			w.ask(wire.Request{Verb: wire.Unlock}) // so that it does not wait for the next refresh
		}
	}
}

// sources maps each profile to its source.
var sources = map[string]string{"dev": "security", "work": "typed"}

func (w *world) pick(list ...string) string { return list[w.rnd.IntN(len(list))] }

// expect compares the answer to a request for a session with the model. It reports whether a session was given.
func (w *world) expect(what string, r wire.Response, source string) bool {
	w.t.Helper()
	switch want := w.has(source); {
	case w.locked && refusedAs(r, fault.Locked), !w.locked && !want && refusedAs(r, fault.LoginNeeded):
		return false
	case w.locked || !want || r.Err != nil:
		w.fail("%s: %+v, %v", what, r, r.Err)
	}
	return true
}

// step does one random action. soon is for check.
func (w *world) step() (what string, soon bool) {
	w.jumped = false
	profile := w.pick("dev", "work")
	source := sources[profile]
	n := w.rnd.IntN(40)
	if w.locked && w.rnd.IntN(3) == 0 {
		n = 34
	}
	switch {
	case n < 12:
		way := w.pick("file", "file", "server", "server", "door", "door", "published", "standing")
		g := &grantModel{way: way, profile: profile, source: source}
		if g.way == "standing" {
			g = w.grants[slices.Index([]string{"dev", "work"}, profile)]
		}
		r := deliveries[g.way].put(w, g)
		what = "put " + g.name()
		if !w.expect(what, r, source) {
			return what + ", refused", false
		}
		w.added(g)
		return what, false
	case n < 16:
		r := w.ask(wire.Request{Verb: wire.Get, Profile: profile})
		if w.expect("get", r, source) {
			if want := fmt.Sprintf("ASIA%04d", w.epoch); !strings.HasPrefix(r.Credential.AccessKeyID, want) {
				w.fail("get %s gave %s, not of %s", profile, r.Credential.AccessKeyID, want)
			}
		}
		return "get " + profile, false
	case n < 21:
		live := slices.DeleteFunc(slices.Clone(w.grants), func(g *grantModel) bool { return g.over })
		g := live[w.rnd.IntN(len(live))]
		deliveries[g.way].take(w, g)
		return "take " + g.name(), g.pid != 0
	case n < 22:
		w.ask(wire.Request{Verb: wire.Unpublish})
		w.unpublished("")
		return "unpublish all", false
	case n < 23:
		r := w.ask(wire.Request{Verb: wire.Publish, Profile: profile, For: time.Millisecond})
		if w.expect("publish", r, source) {
			w.added(&grantModel{way: "published", profile: profile, source: source, over: true})
		}
		return "publish " + profile + " for a millisecond", true
	case n < 27:
		source = w.pick("security", "typed", "")
		if r := w.ask(wire.Request{Verb: wire.Logout, Profile: source}); r.Err != nil {
			w.fail("logout: %v", r.Err)
		}
		w.logout(source)
		return fmt.Sprintf("logout %q", source), false
	case n < 31:
		r := w.ask(wire.Request{Verb: wire.Login, Profile: source, Code: secret.New(code)})
		if w.locked != refusedAs(r, fault.Locked) || !w.locked && r.Err != nil {
			w.fail("login: %v", r.Err)
		}
		if !w.locked {
			w.login(source)
		}
		return "login " + source, false
	case n < 33:
		if r := w.ask(wire.Request{Verb: wire.Lock}); r.Err != nil {
			w.fail("lock: %v", r.Err)
		}
		w.lock()
		return "lock", false
	case n < 35:
		if r := w.ask(wire.Request{Verb: wire.Unlock}); r.Err != nil {
			w.fail("unlock: %v", r.Err)
		}
		w.locked = false
		return "unlock", false
	case n < 38:
		return w.restart(w.pick("take-over", "stop", "crash")), false
	default:
		hours := []int{2, 2, 14}[w.rnd.IntN(3)]
		w.jumped = true
		w.jump(hours)
		w.setClock(hours)
		return fmt.Sprintf("%d hours go by", hours), false
	}
}

// restart replaces the daemon. While no daemon runs, owners may end and a person may lock.
func (w *world) restart(how string) string {
	old := w.daemon
	what := how
	switch how {
	case "take-over":
		w.begin(how)
		if err := old.cmd.Wait(); err != nil {
			w.fail("the daemon that was replaced: %v", err)
		}
		w.model.restart(how)
		return what
	case "stop":
		_ = old.in.Close()
		if err := old.cmd.Wait(); err != nil {
			w.fail("the daemon that was told to end: %v", err)
		}
		if text, err := os.ReadFile(w.path("credentials")); err != nil || string(text) != ownSection {
			w.fail("the daemon ended, and the credentials file is %q, %v", text, err)
		}
	case "crash":
		old.kill()
	}
	if len(w.owners) > 0 && w.rnd.IntN(2) == 0 {
		pid := w.owners[0].cmd.Process.Pid
		w.end(pid)
		what += fmt.Sprint(", ", pid, " ends")
	}
	if w.rnd.IntN(2) == 0 {
		l := lockfile.New(w.path("lock.json"))
		if err := l.Load(); err != nil {
			w.t.Fatal(err)
		}
		if err := l.Lock(); err != nil {
			w.t.Fatal(err)
		}
		w.lock()
		what += ", lock"
	}
	w.model.restart(how)
	w.begin("start")
	return what
}

// count records what the model expects now, by delivery.
func (w *world) count() {
	for _, g := range w.grants {
		must, _ := w.wants(g)
		for what, is := range map[string]bool{
			"visible": must, "locked": w.locked, "shut": g.shut && !w.locked, "over": g.over, "renewed": must && w.epoch > g.born,
		} {
			if is {
				w.counts.add(g.way + " " + what)
			}
		}
	}
}

func testGrants(t *testing.T, sequences, steps int) {
	counts := &tally{n: map[string]int{}}
	t.Run("sequences", func(t *testing.T) {
		for seed := range uint64(sequences) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				t.Logf("seed %d", seed)
				w := &world{t: t, dir: t.TempDir(), seed: seed, rnd: rand.New(rand.NewPCG(seed, 11)), counts: counts,
					model: model{typedHours: -1}}
				for _, p := range []string{"dev", "work"} {
					w.grants = append(w.grants, &grantModel{way: "standing", profile: p + "-always", source: sources[p]})
				}
				if err := os.WriteFile(w.path("credentials"), []byte(ownSection), 0o600); err != nil {
					t.Fatal(err)
				}
				w.setClock(0)
				w.begin("start")
				w.check(false)
				for range steps {
					what, soon := w.step()
					w.trace = append(w.trace, what)
					counts.add(strings.Trim(strings.Fields(what)[0], ","))
					w.check(soon)
					w.count()
				}
			})
		}
	})
	want := []string{"put", "get", "take", "unpublish", "publish", "logout", "login", "lock", "unlock",
		"take-over", "stop", "crash", "2", "14"}
	for way := range renews {
		for _, state := range []string{"visible", "locked", "shut", "renewed"} {
			want = append(want, way+" "+state)
		}
	}
	for _, what := range want {
		if counts.n[what] == 0 && !t.Failed() {
			t.Errorf("%q never happened: the test proves nothing", what)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(counts.n)) {
		t.Logf("%5d %s", counts.n[what], what)
	}
}

// TestGrants: over random sequences of actions by people, programs and the machine, each grant is visible to its
// user and listed by status exactly as the model says.
func TestGrants(t *testing.T) { testGrants(t, 10, 40) }

func TestGrantsLong(t *testing.T) { testGrants(t, 30, 120) }
