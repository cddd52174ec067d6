// Package process is the vault process. It reads and writes the long-lived keys and TOTP seeds, and the MFA
// sessions and logins stored beside them in the keyring. It is the only package that imports the keyring library. It
// never returns a key, a seed, a code, a refresh token, the secret of a registered client or a DPoP key, takes no
// secret from argv or the environment, never falls back to another keyring than the chosen one, and exits after one
// answer. Package vault defines the request and the answer.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/system"
	"broker/internal/vault"
	"broker/internal/version"
)

const (
	// readTimeout limits reading the request; the deadline of the request is not known before.
	readTimeout = 10 * time.Second
	maxTimeout  = 10 * time.Minute
	// answerMargin is the time reserved for writing the answer before the caller kills the process.
	answerMargin = 500 * time.Millisecond
)

// Main is the vault process. It reads one JSON request (a line, or everything until EOF) from stdin, executes it
// within its deadline, and writes one JSON answer to stdout. It returns the exit code: 0 if an answer was written,
// even if that is a failure. The process must exit then, because an operation that missed the deadline may still
// be running. Package ready has already hardened the process and asked for the request.
func Main(stdin io.Reader, stdout io.Writer) int {
	system.Umask(0o077)     // the modes of our files must not depend on the user's umask
	system.CloseInherited() // a vault process that waits on a prompt must not keep another program's pipe open
	return serve(stdin, stdout, newSTS, os.Stderr)
}

// serve is Main with explicit dependencies.
func serve(stdin io.Reader, stdout io.Writer, client func(*request) sts, notices io.Writer) int {
	q, err := readRequest(stdin)
	var a *answer
	if err != nil {
		a = failed(err, nil)
	} else {
		a = answerTo(q, client, notices)
	}
	data, err := json.Marshal(a)
	if err != nil || len(data) > vault.MaxMessage {
		data, _ = json.Marshal(failed(fault.New(fault.Internal, "the answer of the vault process cannot be encoded"), nil))
	}
	if _, err := stdout.Write(append(data, '\n')); err != nil {
		return 1
	}
	return 0
}

// readRequest reads the request. Its errors repeat nothing of it.
func readRequest(stdin io.Reader) (*request, error) {
	type result struct {
		q   *request
		err error
	}
	done := make(chan result, 1)
	go func() {
		data, err := bufio.NewReader(io.LimitReader(stdin, vault.MaxMessage+1)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			done <- result{nil, fault.New(fault.Internal, "the vault cannot read its request")}
			return
		}
		q, err := decodeRequest(data)
		done <- result{q, err}
	}()
	select {
	case r := <-done:
		return r.q, r.err
	case <-time.After(readTimeout):
		return nil, fault.New(fault.Internal, "the vault process received no request")
	}
}

func decodeRequest(data []byte) (*request, error) {
	if len(data) > vault.MaxMessage {
		return nil, fault.New(fault.Usage, "the request to the vault is larger than %d bytes", vault.MaxMessage)
	}
	// A program of another version may send fields that this one does not know, or mean something else by them.
	var from struct{ Version string }
	if json.Unmarshal(data, &from) == nil && from.Version != "" && from.Version != version.String() {
		return nil, fault.New(fault.Failed, "the vault process is brokerd %s, and the program that started it is version %s; "+
			"install broker, brokerd and credproc of one version side by side", version.String(), fault.Line(from.Version)).
			WithHint("command -v broker brokerd credproc")
	}
	var q request
	if err := record.DecodeStrict(data, &q); err != nil {
		return nil, fault.New(fault.Internal, "the request to the vault cannot be read: %w", err)
	}
	if q.TimeoutMS <= 0 || q.TimeoutMS > maxTimeout.Milliseconds() {
		return nil, fault.New(fault.Internal, "the request to the vault has no usable deadline")
	}
	return &q, nil
}

// errand is one request in progress.
type errand struct {
	*request
	sts     sts
	ledger  mfa.Ledger
	notices io.Writer
	hide    []string    // secrets that must not appear in a message
	calling atomic.Bool // set while AWS is being called, after the keyring has answered
	home    string      // home of the key that was read, see belongs
	store   profiles.Store
	file    *fileRing // our own file keyring, if the request uses it
	adopted bool      // see vault.Answer
}

// answerTo runs the request within its deadline. The keyring library takes no context and may wait on a prompt
// forever, so its goroutine is abandoned: the process ends after the answer.
func answerTo(q *request, client func(*request) sts, notices io.Writer) *answer {
	timeout := time.Duration(q.TimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), timeout-min(2*answerMargin, timeout/2))
	defer cancel()
	e := &errand{request: q, sts: client(q), notices: notices, hide: secretsOf(q)}
	e.ledger = mfa.Ledger{Dir: q.StateDir, Waiting: e.waits}

	done := make(chan *answer, 1)
	go func() {
		defer func() {
			if recover() != nil { // the value may contain secrets, so it is not shown
				done <- failed(fault.New(fault.Internal, "the vault process had an internal error"), nil)
			}
		}()
		a, err := e.do(ctx)
		if e.file != nil {
			e.hide = append(e.hide, e.file.secrets()...)
		}
		if err == nil && (a.Credentials != nil || a.Sealed != "" || a.Device != nil || a.Page != nil) {
			err = e.refuseLocked() // the keyring may have waited for a prompt meanwhile
		}
		if err != nil {
			a = failed(e.explainMissing(err), e.hide)
		}
		if e.file != nil {
			a.Key = e.file.found.Reveal()
		}
		a.Adopted = e.adopted // also if it could not be refreshed then
		a.OffsetMS, a.OffsetKnown = e.sts.ServerOffset().Milliseconds(), e.calling.Load()
		done <- a
	}()
	select {
	case a := <-done:
		return a
	case <-time.After(timeout - min(answerMargin, timeout/4)):
	}
	if e.calling.Load() {
		return failed(fault.New(fault.Network, "AWS did not answer within %s", timeout.Round(time.Second)), nil)
	}
	return failed(fault.New(fault.Keyring, "the keyring did not answer within %s; a prompt may be waiting for you", timeout.Round(time.Second)), nil)
}

// do runs the operation of the request.
func (e *errand) do(ctx context.Context) (*answer, error) {
	// Any program of the user can start this process, so a check by the caller does not count here.
	if err := e.refuseLocked(); err != nil {
		return nil, err
	}
	switch e.Op {
	case vault.OpProbe, vault.OpCheck, vault.OpCreate, vault.OpForeignKeys, vault.OpTry, vault.OpMigrate, vault.OpClear,
		vault.OpLogins:
	default:
		if err := checkName(e.Source); err != nil {
			return nil, err
		}
	}
	switch e.Op {
	case vault.OpPut, vault.OpAdopt, vault.OpSeal, vault.OpDevices, vault.OpBeginLogin, vault.OpFinishLogin:
		if err := e.admitNew(); err != nil {
			return nil, err
		}
	}
	if e.Op == vault.OpForeignKeys { // does not use our own keyring
		return e.foreignKeys(ctx)
	}
	r, err := e.openRing(ctx, e.request)
	if err != nil {
		return nil, err
	}
	switch e.Op {
	case vault.OpOpen:
		return e.open(ctx, r)
	case vault.OpPut:
		return e.put(ctx, r)
	case vault.OpSetSeed:
		return e.setSeed(ctx, r)
	case vault.OpRemoveSeed:
		return e.removeSeed(ctx, r)
	case vault.OpRemove:
		return e.remove(ctx, r)
	case vault.OpDrop:
		return e.drop(ctx, r)
	case vault.OpDescribe:
		return e.describe(ctx, r)
	case vault.OpSeal:
		return e.seal(ctx, r)
	case vault.OpUnseal:
		return e.unseal(ctx, r)
	case vault.OpForget:
		return e.forget(ctx, r)
	case vault.OpCheck, vault.OpProbe:
		return &answer{}, r.check(ctx)
	case vault.OpCreate:
		return e.create(ctx, r)
	case vault.OpDevices:
		return e.devices(ctx, r)
	case vault.OpMakeDevice:
		return e.makeDevice(ctx, r)
	case vault.OpEnableDevice:
		return e.enableDevice(ctx, r)
	case vault.OpKeepDevice:
		return e.keepDevice(ctx, r)
	case vault.OpAdopt:
		return e.adopt(ctx, r)
	case vault.OpKeys:
		return e.keys(ctx, r)
	case vault.OpNewKey:
		return e.newKey(ctx, r)
	case vault.OpTryKey:
		return e.tryKey(ctx, r)
	case vault.OpKeyStatus:
		return e.keyStatus(ctx, r)
	case vault.OpDeleteKey:
		return e.deleteKey(ctx, r)
	case vault.OpForgetKey:
		return e.forgetKey(ctx, r)
	case vault.OpBeginLogin:
		return e.beginLogin(ctx, r)
	case vault.OpFinishLogin:
		return e.finishLogin(ctx, r)
	case vault.OpEndLogin:
		return e.endLogin(ctx, r)
	case vault.OpLogins:
		return e.logins(ctx, r)
	case vault.OpTry:
		return e.try(ctx, r)
	case vault.OpMigrate:
		return e.migrate(ctx, r)
	case vault.OpClear:
		return e.clear(ctx, r)
	}
	return nil, fault.New(fault.Internal, "the vault process does not know the operation %q", e.Op)
}

// openRing opens a keyring. It also remembers a file keyring, to return its key later.
func (e *errand) openRing(ctx context.Context, q *request) (ring, error) {
	r, err := openRing(ctx, q)
	if f, ok := r.(*fileRing); ok {
		f.tell = e.tell
		e.file = f
	}
	return r, err
}

// failed returns the answer for an error, with every secret removed from its text.
func failed(err error, hide []string) *answer {
	f := fault.Of(err)
	a := &vault.Fault{Kind: f.Kind, Message: scrub(f.Error(), hide), Hint: string(f.Hint), Reason: vault.ReasonOf(err)}
	if spent, ok := errors.AsType[*mfa.SpentError](err); ok {
		a.Next, a.Damaged = spent.Next, spent.Damaged
	}
	return &answer{Fault: a}
}

// scrub is the last defense: messages should not contain secrets, and after scrub they do not.
func scrub(message string, hide []string) string {
	for _, s := range hide {
		if len(s) >= 4 {
			message = strings.ReplaceAll(message, s, "[redacted]")
		}
	}
	return message
}

// tell sends a line to the caller's Notice.
func (e *errand) tell(line string) {
	_, _ = e.notices.Write([]byte(vault.NoticePrefix + strings.TrimSpace(fault.Line(line)) + "\n"))
}

// waits reports why a code cannot be used at once, and how long the wait is.
func (e *errand) waits(s *mfa.SpentError) {
	e.tell(fmt.Sprintf("waiting %v for the next code: %v", time.Until(s.Next).Round(time.Second), s))
}
