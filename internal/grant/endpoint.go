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

// wrongTokens is the number of wrong tokens after which an endpoint is revoked.
const wrongTokens = 20

// endpoints holds the sockets of all endpoints: one for all, plus the ports of an earlier daemon.
type endpoints struct {
	k      *Keeper
	server *http.Server

	serving  sync.WaitGroup // one for each socket
	requests sync.WaitGroup // one for each connection, which carries one request

	mu        sync.Mutex
	stopped   bool
	listeners map[int]net.Listener
	inherited map[int]net.Listener // from the previous daemon, until we serve on them
	taken     map[int]bool         // our ports on which other programs listen

	said refusals // those that concern no grant
}

func (e *endpoints) init(k *Keeper) {
	e.k, e.server = k, newServer(e)
	e.listeners, e.inherited, e.taken = map[int]net.Listener{}, map[int]net.Listener{}, map[int]bool{}
}

// loopback is the address on which endpoints listen.
const loopback = "127.0.0.1"

func (g *Grant) host() string { return loopback + ":" + strconv.Itoa(g.Port) }

func (g *Grant) path() string { return "/credentials/" + g.ID }

// opens reports whether the token is right, in constant time.
func (g *Grant) opens(token string) bool {
	return subtle.ConstantTimeCompare([]byte(digest(token)), []byte(g.Token)) == 1
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// randomHex returns n random bytes in hex.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand never fails
	return hex.EncodeToString(b)
}

func (e *endpoints) tokenFile(id string) string { return e.k.Socket + ".token-" + id }

// Endpoint gives the calling process an endpoint for the session of a profile. It fetches the session first, which
// may prompt for a code. It ends an earlier endpoint of the same process.
func (k *Keeper) Endpoint(ctx context.Context, a Request, req *wire.Request, reply func(wire.Response) error) error {
	if !peer.TellsLoopback {
		return fault.New(fault.Failed, "no endpoint: on %s, Broker cannot tell which user made a loopback connection",
			runtime.GOOS).
			WithHint("broker exec --mode file %s -- COMMAND", req.Profile)
	}
	owner, err := peer.Find(a.By.PID)
	if err != nil {
		return fault.New(fault.Failed, "find the process that asks for an endpoint: %w", err)
	}
	token := randomHex(32)
	h := &held{Grant: Grant{ID: randomHex(16), Kind: Endpoint, Owner: owner, Profiles: []string{req.Profile},
		Role: req.Role, Since: wholeSeconds(), Program: programOf(a.Requests[0]),
		AWSConfig: a.Requests[0].Files.Config, AWSCredentials: a.Requests[0].Files.Credentials,
		Token: digest(token)},
		next: time.Now().Add(renewInterval)}
	a.Event, a.Endpoint, a.Delivery = "endpoint", h.ID, audit.Endpoint
	a.Get = k.withoutSession
	return k.Give(ctx, a, func(answers []session.Answer) error {
		answer := answers[0]
		h.Sources, h.Agent = []string{answer.Source}, answer.Agent
		before := k.all(func(old *held) bool { return old.Kind == Endpoint && old.Owner == owner })
		if err := k.endpoints.add(h, req.TokenFile, token); err != nil {
			return err
		}
		for _, old := range before { // the loop retries
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

// withoutSession returns the answer to a request without its session, which is not handed out yet.
func (k *Keeper) withoutSession(ctx context.Context, r session.Request) (session.Answer, error) {
	answer, err := k.Broker.Credentials(ctx, r)
	answer.Credentials = session.Credentials{}
	return answer, err
}

// add listens for an endpoint and adds it to the grants.
func (e *endpoints) add(h *held, tokenFile bool, token string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return fault.New(fault.Failed, "the daemon is stopping; try again")
	}
	port, err := e.portLocked()
	if err != nil {
		return err
	}
	h.Port = port
	if tokenFile {
		if err := writeNew(e.tokenFile(h.ID), token); err != nil {
			return fault.New(fault.Failed, "write the token of the endpoint: %w", err)
		}
	}
	if err := e.k.add(h); err != nil {
		_ = e.removeLocked(h)
		return err
	}
	return nil
}

// writeNew creates a file that only this user can read.
func writeNew(path, text string) error {
	f, err := record.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, record.Private)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Warnings returns a warning for each port that another program took.
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

// remove removes the token of an endpoint that has ended.
func (e *endpoints) remove(h *held) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.removeLocked(h)
}

// removeLocked removes a token. It closes the socket if no other endpoint uses the port.
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

// guessed counts a wrong token, and revokes the endpoint after too many.
func (e *endpoints) guessed(h *held) {
	e.k.mu.Lock()
	h.wrong++
	wrong, sources := h.wrong, strings.Join(h.Sources, ",")
	e.k.mu.Unlock()
	if wrong != wrongTokens {
		return
	}
	_ = e.k.end(h) // the loop retries
	_ = e.k.Audit.Record(audit.Event{Event: "revoked", Profile: h.Profiles[0], Source: sources,
		UID: os.Getuid(), PID: h.Owner.PID, Endpoint: h.ID, Message: fmt.Sprintf("%d wrong tokens", wrong)})
}
