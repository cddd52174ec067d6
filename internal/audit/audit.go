// Package audit writes and reads the audit log: one JSON line for each decision. It cannot log secrets: an Event has
// no field for one, and arguments of processes are redacted. Access key ids are not secret. They are logged in full,
// because CloudTrail shows them and people search for them. Each line names the hash of the line before it; see Head
// and Reader.Verify.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"
)

// Event is one line of the log. docs/audit-log.md documents each field and each event for readers of the log.
//
// Caller is the process that asked, with its parents; nil if it is the daemon itself, or unknown.
type Event struct {
	Time        time.Time  `json:"time"` // RFC 3339 in UTC, with milliseconds
	Event       string     `json:"event"`
	Profile     string     `json:"profile,omitempty"`      // or source, as it was asked for
	Account     string     `json:"account,omitempty"`      // twelve digits
	Source      string     `json:"source,omitempty"`       // whose long-lived key was used
	Role        string     `json:"role,omitempty"`         // ARN
	SessionName string     `json:"session_name,omitempty"` // of the role session
	KeyID       string     `json:"key_id,omitempty"`       // access key id of the session
	Expires     *time.Time `json:"expires,omitempty"`      // end of that session
	Rights      Rights     `json:"rights,omitempty"`       // empty unless the profile is read-only
	Cached      bool       `json:"cached,omitempty"`       // the daemon had the session in memory
	Delivery    Delivery   `json:"delivery,omitempty"`
	Kind        fault.Kind `json:"kind,omitempty"`    // why it was refused
	Message     string     `json:"message,omitempty"` // the same in words
	Reason      string     `json:"reason,omitempty"`
	Endpoint    string     `json:"endpoint,omitempty"` // id of the endpoint, which is no secret
	Door        string     `json:"door,omitempty"`     // name of the door
	// STSEndpoint is where the calls went or would have gone, unless that is AWS's own endpoint of the region: one
	// URL, or several with ", " between.
	STSEndpoint string `json:"sts_endpoint,omitempty"`
	Agent       string `json:"agent,omitempty"`  // the coding agent that asked, if one was recognized
	Missed      int    `json:"missed,omitempty"` // of a gap: how many lines could not be written
	// UID and PID are of the process that asked, from the kernel; for an endpoint, of the process that owns it.
	UID int `json:"uid"`
	PID int `json:"pid,omitempty"`
	// Prev is the SHA-256, in hex, of the whole previous line without its line end. The first line of a log has none.
	Prev string `json:"prev,omitempty"`
	*Caller
}

// Delivery is how a session reached its user.
type Delivery string

// The deliveries. Reply includes sessions that a command puts into the environment of a program: for the daemon,
// both are an answer on its socket.
const (
	Reply       Delivery = "reply"
	Endpoint    Delivery = "endpoint"
	PrivateFile Delivery = "private_file"
	Published   Delivery = "published"
	Console     Delivery = "console"
	Door        Delivery = "door"
	Token       Delivery = "token"
)

// Rights says whether a session has all rights of its role, if its profile is read-only.
type Rights string

// The rights. An elevated session has all rights of its role for a while.
const (
	ReadOnly Rights = "read-only"
	Elevated Rights = "elevated"
)

// lineJSON is an Event as it is written. Its times replace those of the Event: encoding a string costs a third of
// encoding a time.Time.
type lineJSON struct {
	Time string `json:"time"`
	*Event
	Expires string `json:"expires,omitempty"`
}

// millis is RFC 3339 with milliseconds, in UTC.
const millis = "2006-01-02T15:04:05.000Z"

const (
	// maxSize is the size in bytes at which the log is set aside and a new one begins. keep is how many old logs
	// are kept.
	maxSize = 16 << 20
	keep    = 4
)

// Log appends to a file. Use New; the zero value does not work.
type Log struct {
	// Journal is the socket of journald, which gets the head of the log at the first and last line, at a rotation, and
	// at most once a minute while lines are written. If it is empty, nothing is sent. Set it before the first line.
	Journal string

	path string
	most int64 // maxSize; less in tests
	now  func() time.Time

	mu     sync.Mutex
	file   *os.File     // nil until the first line, and while it cannot be opened
	opened system.Stamp // of the open file
	size   int64
	chain  chain
	sent   JournalHead  // the last head that was sent to the journal
	line   bytes.Buffer // the lines that are being written
	gone   string       // what happened to the earlier lines, or ""
	missed int
	failed error // the current write error, after the warning about it
	warn   func(error)
}

// New returns a Log. Missing files are created with the first line, with mode 0600; their directory must exist.
// Before each line, the Log checks that the open file still has its name, and reopens it otherwise. warn is called
// each time that writing starts to fail. Several Logs may write to the same file: they take turns.
func New(path string, warn func(error)) *Log {
	return &Log{path: path, most: maxSize, warn: warn, now: time.Now, chain: chain{patience: lockTimeout}}
}

// openLocked opens the file and finds the end of the chain in it.
func (l *Log) openLocked() error {
	f, err := record.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, record.Guarded)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.file, l.opened, l.size = f, system.StampOf(info), info.Size()
	return l.findEndLocked()
}

func (l *Log) closeLocked() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

// lookLocked compares the open file with the file at the log's path. If that is another file, or lines are missing,
// it closes the file, so that the next write reopens it, and records what it saw in gone. If another daemon has
// added lines, it closes the file too. This costs one system call.
func (l *Log) lookLocked() {
	if l.file == nil {
		return
	}
	found, err := system.StampOfPath(l.path, false)
	switch {
	case err != nil:
	case found == system.Stamp{}:
		l.gone = goneRemoved
	case !found.SameFile(l.opened):
		l.gone = "the log with the earlier lines was replaced"
		for i := 1; i <= keep; i++ {
			aside, err := system.StampOfPath(fmt.Sprintf("%s.%d", l.path, i), false)
			if err == nil && aside.SameFile(l.opened) {
				l.gone = "" // set aside by the previous or the next daemon
			}
		}
	case found.Size < l.size:
		l.gone = "the log with the earlier lines was truncated"
	case found.Mode != l.opened.Mode, found.Size > l.size:
	default:
		return
	}
	l.closeLocked()
}

// Record writes a line for each event: all, or none. It escapes each text with fault.Line, because names of profiles
// and programs are chosen by others. If the write fails (such as on a full disk), a later line with the event "gap"
// says how many lines are missing.
func (l *Log) Record(events ...Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.recordLocked(events)
	if err == nil {
		l.failed = nil
		return nil
	}
	first := l.failed == nil
	l.failed = fmt.Errorf("the audit log cannot be written: %w", err)
	if first {
		l.warn(l.failed)
	}
	return l.failed
}

// Failing returns why the last line could not be written, or nil.
func (l *Log) Failing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *Log) recordLocked(events []Event) error {
	written, rotated, err := false, false, l.chain.lock(headPath(l.path))
	defer l.chain.unlock()
	if err == nil {
		l.lookLocked()
		if l.file == nil {
			err = l.openLocked()
		}
	}
	if err == nil {
		written, rotated, err = l.writeLocked(events)
	}
	if !written {
		l.missed += len(events)
		return err
	}
	l.missed, l.gone = 0, ""
	l.sendHeadLocked(rotated)
	return err
}

// writeLocked writes the lines of events, after a line that says how many lines are missing and what happened to
// the log, if anything did. All lines are one write.
func (l *Log) writeLocked(events []Event) (written, rotated bool, err error) {
	if l.missed > 0 || l.gone != "" {
		events = append([]Event{{Event: "gap", UID: os.Getuid(), Missed: l.missed, Message: l.gone}}, events...)
	}
	l.line.Reset()
	l.line.WriteByte('\n') // ends the last line if it is torn
	next := l.chain.Head
	for i := range events {
		begin := l.line.Len()
		e := events[i]
		e.Prev = next.Sum
		if err := l.encodeLocked(e); err != nil {
			return false, false, err
		}
		next = Head{next.Lines + 1, SumOf(l.line.Bytes()[begin : l.line.Len()-1])}
	}
	lines := l.line.Bytes()
	if l.size > 0 && l.size+int64(len(lines)) > l.most {
		if err := l.turnLocked(); err != nil {
			return false, false, err
		}
		rotated = true
	}
	if !l.chain.torn {
		lines = lines[1:]
	}
	n, err := l.file.Write(lines)
	l.size += int64(n)
	if err != nil {
		// A partial line would corrupt the next one.
		if n > 0 && l.file.Truncate(l.size-int64(n)) == nil {
			l.size -= int64(n)
		}
		return false, rotated, err
	}
	return true, rotated, l.chain.advance(next)
}

// encodeLocked appends the line of an event to l.line.
func (l *Log) encodeLocked(e Event) error {
	out := lineJSON{Time: l.now().UTC().Format(millis), Event: &e}
	if e.Expires != nil {
		out.Expires = e.Expires.UTC().Format(time.RFC3339)
	}
	for _, text := range []*string{&e.Profile, &e.Account, &e.Source, &e.Role, &e.SessionName, &e.KeyID, &e.Message,
		&e.Reason, &e.Endpoint, &e.Door, &e.STSEndpoint, &e.Agent} {
		*text = fault.Line(*text)
	}
	e.Delivery = Delivery(fault.Line(string(e.Delivery)))
	e.Rights = Rights(fault.Line(string(e.Rights)))
	e.Kind = fault.Kind(fault.Line(string(e.Kind)))
	who := e.Caller
	e.Caller = nil
	if err := json.NewEncoder(&l.line).Encode(&out); err != nil {
		return err
	}
	if who != nil {
		l.line.Truncate(l.line.Len() - len("}\n"))
		l.line.Write(who.encoded())
		l.line.WriteString("}\n")
	}
	return nil
}

// turnLocked sets the full log aside: audit.log.1 is the newest of the old logs.
func (l *Log) turnLocked() error {
	dir, err := record.Open(filepath.Dir(l.path), record.Guarded)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	name := filepath.Base(l.path)
	for i := keep - 1; i >= 1; i-- {
		_ = dir.Rename(fmt.Sprintf("%s.%d", name, i), fmt.Sprintf("%s.%d", name, i+1))
	}
	if err := dir.Rename(name, name+".1"); err != nil {
		return err
	}
	l.closeLocked()
	return l.openLocked()
}

// Close sends the head to journald, and closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sendHeadLocked(true)
	err := l.chain.close()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
