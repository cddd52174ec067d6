package grant

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
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
	"broker/internal/wire"
)

// wrongTokens is after how many of them an endpoint is revoked.
const wrongTokens = 20

// endpoints are the sockets of all endpoints: one for all, unless the port of an older daemon is there as well.
type endpoints struct {
	k      *Keeper
	server *http.Server

	serving  sync.WaitGroup // one for each socket
	requests sync.WaitGroup // one for each connection, which has one request

	mu        sync.Mutex
	stopped   bool
	listeners map[int]net.Listener
	inherited map[int]net.Listener // of the daemon before, until they are listened on
	taken     map[int]bool         // ports of ours that others listen on

	saying sync.Mutex           // protects said, for which no refusal waits until the record is written
	said   map[string]time.Time // what was refused to nobody in particular, and when that was recorded
}

func (e *endpoints) init(k *Keeper) {
	e.k, e.server = k, newServer(e)
	e.listeners, e.inherited, e.taken = map[int]net.Listener{}, map[int]net.Listener{}, map[int]bool{}
	e.said = map[string]time.Time{}
}

// loopback is where endpoints listen.
const loopback = "127.0.0.1"

func (g *Grant) host() string { return loopback + ":" + strconv.Itoa(g.Port) }

func (g *Grant) path() string { return "/credentials/" + g.ID }

// opens reports whether this is the token, in a time that does not tell how much of it was right.
func (g *Grant) opens(token string) bool {
	return subtle.ConstantTimeCompare([]byte(digest(token)), []byte(g.Token)) == 1
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// randomHex is n random bytes in hex.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand
	return hex.EncodeToString(b)
}

func (e *endpoints) tokenFile(id string) string { return e.k.Socket + ".token-" + id }

// Endpoint gives the asking process an endpoint for the session of a profile, which it fetches first: that may ask a
// person. An endpoint that the same process had before ends.
func (k *Keeper) Endpoint(ctx context.Context, a Ask, req *wire.Request, reply func(wire.Response) error) error {
	if !peer.TellsLoopback {
		return fault.New(fault.Failed, "no endpoint: this version cannot tell on %s whose a connection over loopback is",
			runtime.GOOS).
			WithHint("broker exec --mode file %s -- COMMAND", req.Profile)
	}
	owner, err := peer.Find(a.By.PID)
	if err != nil {
		return fault.New(fault.Failed, "find the process that asks for an endpoint: %w", err)
	}
	token := randomHex(32)
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Endpoint, Owner: owner, Profiles: []string{req.Profile},
		Role: req.Role, Since: wholeSeconds(),
		AWSConfig: a.Requests[0].Files.Config, AWSCredentials: a.Requests[0].Files.Credentials,
		Token: digest(token)},
		next: time.Now().Add(renewInterval)}
	a.Event, a.Endpoint = "lease", h.ID
	a.Get = func(ctx context.Context, r session.Request) (session.Answer, error) {
		answer, err := k.Broker.Credentials(ctx, r)
		answer.Credentials = session.Credentials{} // nobody is given the session yet
		return answer, err
	}
	return k.Give(ctx, a, func(answers []session.Answer) error {
		answer := answers[0]
		h.Sources = []string{answer.Source}
		before := k.all(func(old *held) bool { return old.Kind == Endpoint && old.Owner == owner })
		if err := k.endpoints.add(h, req.TokenFile, token); err != nil {
			return err
		}
		for _, old := range before {
			_ = k.end(old)
		}
		made := &wire.Endpoint{URL: "http://" + h.host() + h.path(), Token: secret.New(token), Profile: answer.Profile,
			Region: answer.Region}
		if req.TokenFile {
			made.TokenFile = k.endpoints.tokenFile(h.ID)
		}
		if req.Role != nil {
			made.Role = answer.Role
		}
		return reply(wire.Response{Endpoint: made, Warnings: Lines(answer.Warnings)})
	})
}

// add listens for an endpoint, and begins to answer for it.
func (e *endpoints) add(h *held, tokenFile bool, token string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return fault.New(fault.Failed, "the daemon is about to end; try again")
	}
	port, err := e.portLocked()
	if err != nil {
		return err
	}
	h.Port = port
	if tokenFile {
		if err := writeNew(e.tokenFile(h.ID), token); err != nil {
			return fault.New(fault.Failed, "keep the endpoint: %w", err)
		}
	}
	if err := e.k.add(h); err != nil {
		_ = e.removeLocked(h)
		return err
	}
	return nil
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

// Warnings tell of the ports that others took.
func (k *Keeper) Warnings() []string {
	e := &k.endpoints
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for port, taken := range e.taken {
		if taken {
			list = append(list, fmt.Sprintf("another program listens on 127.0.0.1:%d; "+
				"stop it, or restart the command that runs under `broker exec --mode server`", port))
		}
	}
	slices.Sort(list)
	return list
}

// remove takes back the token of an endpoint that has ended.
func (e *endpoints) remove(h *held) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.removeLocked(h)
}

// removeLocked removes a token, and ends the listening on a port that no endpoint is left of.
func (e *endpoints) removeLocked(h *held) error {
	err := record.Remove(e.tokenFile(h.ID))
	if others := e.k.all(func(o *held) bool { return o.Port == h.Port && !o.Ended }); len(others) > 0 {
		return err
	}
	delete(e.taken, h.Port)
	if l := e.listeners[h.Port]; l != nil {
		_ = l.Close()
		delete(e.listeners, h.Port)
	}
	return err
}

// guessed counts a wrong token, and revokes the endpoint where there were too many.
func (e *endpoints) guessed(h *held) {
	e.k.mu.Lock()
	h.wrong++
	wrong, sources := h.wrong, strings.Join(h.Sources, ",")
	e.k.mu.Unlock()
	if wrong != wrongTokens {
		return
	}
	_ = e.k.end(h) // the loop tries again
	_ = e.k.Audit.Record(audit.Event{Event: "revoked", Profile: h.Profiles[0], Source: sources,
		UID: os.Getuid(), PID: h.Owner.PID, Endpoint: h.ID, Message: fmt.Sprintf("%d wrong tokens", wrong)})
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
