package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// A lease is the endpoint of one process: what it may ask for, and until when.
// It is written to a file, so that the process can go on with the next daemon.
type lease struct {
	ID      string     `json:"id"` // in the path of its URL; no secret
	Port    int        `json:"port"`
	Token   string     `json:"token_sha256"` // hex
	PID     int        `json:"pid"`
	Started string     `json:"started"` // of that process, see peer.Process
	Profile string     `json:"profile"`
	Role    *wire.Role `json:"role,omitempty"`
	Source  string     `json:"source"`
	Since   time.Time  `json:"since,omitzero"`
	// The AWS files as the process named them.
	AWSConfig      string `json:"aws_config_file,omitempty"`
	AWSCredentials string `json:"aws_shared_credentials_file,omitempty"`
	LoggedOut      bool   `json:"logged_out,omitempty"` // until somebody logs in again

	wrong   int       // tokens
	warm    bool      // its last request was answered
	touched time.Time // when its session was last asked for
}

func (l *lease) host() string { return "127.0.0.1:" + strconv.Itoa(l.Port) }

func (l *lease) path() string { return "/credentials/" + l.ID }

// process is the one that was given the lease.
func (l *lease) process() peer.Process { return peer.Process{PID: l.PID, Start: l.Started} }

// opens reports whether this is the token, in a time that does not tell how much of it was right.
func (l *lease) opens(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(l.Token)) == 1
}

const (
	// wrongTokens is after how many of them a lease is revoked.
	wrongTokens = 20
	// warmInterval is how often the session of a lease counts as used although nobody asked, so that it is
	// renewed in the background and a program that asks once a day does not wait. It is below session's useMemory.
	warmInterval = 5 * time.Minute
	// warmTimeout bounds one such request.
	warmTimeout = time.Minute
	// maxLeases bounds the file in which they are kept.
	maxLeases = 4 << 20
)

// The ports that are tried lie below those that the systems give to outgoing connections
// (ip_local_port_range of ip(7); RFC 6335), so that one is not taken while a daemon ends and the next begins.
const (
	firstPort = 20000
	lastPort  = 32767
	portTries = 50
)

// endpoints are the leases there are, and the sockets on which they are served:
// one for all, unless the port of an older daemon is there as well.
type endpoints struct {
	d      *Daemon
	server *http.Server
	ctx    context.Context // of every request; set by adopt

	serving sync.WaitGroup // one for each socket
	open    sync.WaitGroup // one for each connection, which has one request

	mu        sync.Mutex
	stopped   bool
	leases    map[string]*lease
	listeners map[int]net.Listener
	inherited map[int]net.Listener // of the daemon before, until they are listened on
	taken     map[int]bool         // ports of ours that others listen on

	saying sync.Mutex           // protects said, for which no refusal waits until leases are written
	said   map[string]time.Time // what was refused to nobody in particular, and when that was recorded
}

func newEndpoints(d *Daemon) *endpoints {
	e := &endpoints{d: d, leases: map[string]*lease{}, listeners: map[int]net.Listener{}, taken: map[int]bool{}, said: map[string]time.Time{}}
	e.server = newServer(e)
	return e
}

// file is where the leases are kept: beside the socket, whose lock says which daemon they belong to.
func (e *endpoints) file() string { return e.d.Socket + ".endpoints" }

func (e *endpoints) tokenFile(id string) string { return e.d.Socket + ".token-" + id }

// lease fetches the session of a profile, asking a person if need be, and gives the asking process an endpoint for it.
func (d *Daemon) lease(ctx context.Context, c call) (wire.Response, error) {
	if !peer.TellsLoopback {
		return wire.Response{}, fault.New(fault.Failed, "no endpoint: this version cannot tell on %s whose a connection over loopback is", runtime.GOOS).
			WithHint("broker exec --mode file %s -- COMMAND", c.req.Profile)
	}
	owner, err := peer.Find(c.peer.PID)
	if err != nil {
		return wire.Response{}, fault.New(fault.Failed, "an endpoint belongs to a process, and %w", err)
	}
	r := d.request(c)
	r.AdHoc = adHoc(c.req.Role)
	answer, err := d.Broker.Credentials(ctx, r)
	var l *lease
	var token secret.String
	if err == nil {
		l, token, err = d.endpoints.add(c, owner, answer)
	}
	if l != nil {
		c.endpoint = l.ID
	}
	// The session itself was given to nobody yet.
	_ = d.record("lease", c, session.Answer{Source: answer.Source, Role: answer.Role}, err)
	if err != nil {
		return wire.Response{}, err
	}
	d.lastUse.Store(time.Now().Unix())
	endpoint := &wire.Endpoint{URL: "http://" + l.host() + l.path(), Token: token, Profile: answer.Profile, Region: answer.Region}
	if c.req.TokenFile {
		endpoint.TokenFile = d.endpoints.tokenFile(l.ID)
	}
	if c.req.Role != nil {
		endpoint.Role = answer.Role
	}
	return wire.Response{Endpoint: endpoint, Warnings: lines(answer.Warnings)}, nil
}

// add makes a lease. One that the same process had before ends: it asks for one to hand over its environment.
func (e *endpoints) add(c call, owner peer.Process, answer session.Answer) (*lease, secret.String, error) {
	token, id := random(32), random(16)
	sum := sha256.Sum256([]byte(token))
	l := &lease{
		ID: id, Token: hex.EncodeToString(sum[:]), PID: owner.PID, Started: owner.Start,
		Profile: c.req.Profile, Role: c.req.Role, Source: answer.Source, Since: time.Now().Truncate(time.Second),
		AWSConfig: c.req.AWSConfig, AWSCredentials: c.req.AWSCredentials,
		warm: true, touched: time.Now(),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil, secret.String{}, fault.New(fault.Failed, "the daemon is about to end; try again")
	}
	for _, old := range e.leases {
		if old.process() == owner {
			e.removeLocked(old)
		}
	}
	port, err := e.portLocked()
	if err != nil {
		return nil, secret.String{}, err
	}
	l.Port = port
	e.leases[id] = l
	if c.req.TokenFile {
		err = writeNew(e.tokenFile(id), token)
	}
	if err == nil {
		err = e.saveLocked()
	}
	if err != nil {
		e.removeLocked(l)
		return nil, secret.String{}, fault.New(fault.Failed, "keep the endpoint: %w", err)
	}
	return l, secret.New(token), nil
}

// random is n random bytes in hex.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand
	return hex.EncodeToString(b)
}

// writeNew makes a file that only we can read.
func writeNew(path, text string) error {
	f, err := record.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, record.Private)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// portLocked is a port that we listen on.
func (e *endpoints) portLocked() (int, error) {
	for port := range e.listeners {
		return port, nil
	}
	var err error
	for range portTries {
		n, _ := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		port := firstPort + int(n.Int64())
		if err = e.listenLocked(port); err == nil {
			return port, nil
		}
	}
	return 0, fault.New(fault.Failed, "no port of 127.0.0.1 is free for the endpoint: %w", err)
}

// listenLocked begins to serve on a port.
func (e *endpoints) listenLocked(port int) error {
	l := e.inherited[port]
	if delete(e.inherited, port); l == nil {
		var err error
		if l, err = net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port)); err != nil {
			return err
		}
	}
	e.listeners[port] = l
	e.serving.Go(func() { _ = e.server.Serve(socket.Guard(l, e.own)) })
	return nil
}

// adopt takes over the leases that an earlier daemon left, on their ports. Requests are answered under ctx.
func (e *endpoints) adopt(ctx context.Context) {
	e.mu.Lock()
	e.ctx = ctx
	left, err := readLeases(e.file())
	if err != nil {
		e.d.setAside("the endpoints of running programs cannot be taken over", e.file(), err)
	}
	for _, l := range left {
		l.warm = !l.LoggedOut
		e.leases[l.ID] = l
	}
	e.mu.Unlock()
	e.keep()
	e.mu.Lock()
	defer e.mu.Unlock()
	for port, l := range e.inherited {
		_ = l.Close() // of a program that has ended meanwhile
		delete(e.inherited, port)
	}
	if err := e.sweepLocked(); err != nil {
		e.d.Log.Warn("what a daemon left that was killed was not removed", "err", err)
	}
}

// sweepLocked removes the drafts and tokens that a daemon left which was killed.
func (e *endpoints) sweepLocked() error {
	dir, err := record.Open(filepath.Dir(e.d.Socket), record.Private)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Names()
	for _, name := range names {
		id, is := strings.CutPrefix(name, filepath.Base(e.tokenFile("")))
		if is && isID(id) && e.leases[id] == nil {
			err = errors.Join(err, dir.Remove(name))
		}
	}
	return errors.Join(err, dir.Sweep())
}

// isID reports whether a text may be the id of a lease.
func isID(text string) bool {
	id, err := hex.DecodeString(text)
	return err == nil && len(id) == 16
}

// leaseFile is the content of the file of leases. Broker 0.1.0 wrote the list alone.
type leaseFile struct {
	Version int      `json:"version"` // 1
	Leases  []*lease `json:"leases"`
}

// readLeases reads the file, which must be ours alone. A missing one has no leases.
func readLeases(path string) ([]*lease, error) {
	text, err := record.Read(path, maxLeases, record.Private)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file leaseFile
	if err := record.Decode(text, 1, &file, &file.Leases); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return slices.DeleteFunc(file.Leases, func(l *lease) bool {
		return l == nil || !isID(l.ID) || len(l.Token) != 2*sha256.Size ||
			l.Port < 1024 || l.Port > 65535 || l.PID <= 0 || l.Started == ""
	}), nil
}

// saveLocked writes the leases down, or takes the file away where there are none.
func (e *endpoints) saveLocked() error {
	if len(e.leases) == 0 {
		return record.Remove(e.file())
	}
	list := make([]*lease, 0, len(e.leases))
	for _, l := range e.leases {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *lease) int { return strings.Compare(a.ID, b.ID) })
	b, err := json.Marshal(leaseFile{Version: 1, Leases: list})
	if err != nil {
		return err
	}
	return record.Replace(e.file(), b)
}

// save is saveLocked where nobody can be told.
func (e *endpoints) save() {
	if err := e.saveLocked(); err != nil {
		e.d.Log.Error("the endpoints cannot be written down; they end with this daemon", "err", err)
	}
}

// removeLocked ends a lease, and the listening on a port that no lease is left of.
func (e *endpoints) removeLocked(l *lease) {
	delete(e.leases, l.ID)
	_ = record.Remove(e.tokenFile(l.ID))
	for _, other := range e.leases {
		if other.Port == l.Port {
			return
		}
	}
	delete(e.taken, l.Port)
	if listener := e.listeners[l.Port]; listener != nil {
		_ = listener.Close()
		delete(e.listeners, l.Port)
	}
}

// keep ends the leases of processes that are gone, listens where it should, and keeps sessions warm.
func (e *endpoints) keep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || len(e.leases) == 0 {
		return
	}
	changed := false
	for _, l := range e.leases {
		if !l.process().Running() {
			e.removeLocked(l)
			changed = true
		}
	}
	for _, l := range e.leases {
		if e.listeners[l.Port] == nil {
			e.relistenLocked(l.Port)
		}
		if l.warm && time.Since(l.touched) >= warmInterval && !e.d.Broker.Locked() {
			l.touched = time.Now()
			go e.touch(*l)
		}
	}
	if _, err := os.Lstat(e.file()); changed || len(e.leases) > 0 && errors.Is(err, fs.ErrNotExist) {
		e.save()
	}
}

// relistenLocked listens on a port that programs hold on to. Where it was taken meanwhile it is said
// once, and tried again each second.
func (e *endpoints) relistenLocked(port int) {
	err := e.listenLocked(port)
	if (err != nil) != e.taken[port] {
		if e.taken[port] = err != nil; err != nil {
			e.d.Log.Error("programs under `broker exec --mode server` get no credentials", "err", err)
		} else {
			e.d.Log.Info("programs under `broker exec --mode server` get credentials again", "port", port)
		}
	}
}

// warnings tells of the ports that others took.
func (e *endpoints) warnings() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for port, taken := range e.taken {
		if taken {
			list = append(list, fmt.Sprintf("another program listens on 127.0.0.1:%d; what was started under `broker exec --mode server` gets nothing until that ends, or it is started anew", port))
		}
	}
	slices.Sort(list)
	return list
}

// touch asks for a session that nobody waits for, so that it stays in use.
func (e *endpoints) touch(l lease) {
	ctx, cancel := context.WithTimeout(e.ctx, warmTimeout)
	defer cancel()
	_, err := e.d.Broker.Credentials(ctx, e.request(l))
	e.warmed(l.ID, err == nil)
}

// warmed notes whether the session of a lease could be had. One that could not is not asked for again by itself.
func (e *endpoints) warmed(id string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.leases[id]; l != nil {
		l.warm, l.touched = ok, time.Now()
	}
}

// request is what a lease asks of the broker. Nobody is asked for a code.
func (e *endpoints) request(l lease) session.Request {
	r := e.d.request(e.call(l))
	r.AdHoc, r.Window = adHoc(l.Role), nil
	return r
}

// call is a request of a lease, for the audit log.
func (e *endpoints) call(l lease) call {
	owner := peer.Peer{UID: os.Getuid(), Process: l.process()}
	return call{
		req:      wire.Request{Profile: l.Profile, Role: l.Role, AWSConfig: l.AWSConfig, AWSCredentials: l.AWSCredentials},
		peer:     caller{owner, owner.Program},
		endpoint: l.ID,
	}
}

// loggedOut closes the endpoints of a source, of all if it is empty, until somebody logs in again: a program
// that runs on would otherwise open a new session at once.
func (e *endpoints) loggedOut(source string) { e.mark(source, true) }

func (e *endpoints) loggedIn(source string) { e.mark(source, false) }

func (e *endpoints) mark(source string, out bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := false
	for _, l := range e.leases {
		if (source == "" || l.Source == source) && l.LoggedOut != out {
			l.LoggedOut, l.warm, changed = out, !out, true
		}
	}
	if changed {
		e.save()
	}
}

// find is the lease of a path, as it is now.
func (e *endpoints) find(path string) (lease, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leases[strings.TrimPrefix(path, "/credentials/")]
	if l == nil || l.path() != path {
		return lease{}, false
	}
	return *l, true
}

// end ends the lease of a process that is gone.
func (e *endpoints) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.leases[id]; l != nil {
		e.removeLocked(l)
		e.save()
	}
}

// guessed counts a wrong token, and revokes the lease where there were too many.
func (e *endpoints) guessed(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leases[id]
	if l == nil {
		return
	}
	if l.wrong++; l.wrong < wrongTokens {
		return
	}
	e.removeLocked(l)
	e.save()
	_ = e.d.Audit.Record(audit.Event{Event: "revoked", Profile: l.Profile, Source: l.Source, UID: os.Getuid(), PID: l.PID,
		Endpoint: l.ID, Message: fmt.Sprintf("%d wrong tokens", l.wrong)})
}

// sayInterval is how often the same refusal to nobody in particular is recorded: anybody on the machine can
// connect, and must not be able to fill the log.
const sayInterval = time.Minute

// sayable reports whether it is time to record a refusal again.
func (e *endpoints) sayable(text string) bool {
	e.saying.Lock()
	defer e.saying.Unlock()
	if last, ok := e.said[text]; ok && time.Since(last) < sayInterval {
		return false
	}
	e.said[text] = time.Now()
	return true
}

// stop ends serving; requests under way may finish. The leases stay for the next daemon.
func (e *endpoints) stop() {
	e.mu.Lock()
	e.stopped = true
	for _, l := range e.listeners {
		_ = l.Close()
	}
	e.mu.Unlock()
	// Not by Shutdown, which closes unanswered whose request it has not read yet.
	e.serving.Wait()
	answered := make(chan struct{})
	go func() {
		e.open.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(e.d.patience):
	}
	_ = e.server.Close()
}
