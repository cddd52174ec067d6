// Package audit writes the audit log: one JSON line for each credential that was handed out or refused. It cannot
// log secrets: an Event has no field for one. Access key ids are not secret. They are logged in full, because
// CloudTrail shows them and people search for them.
package audit

import (
	"bytes"
	"encoding/json"
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
	Cached      bool       `json:"cached,omitempty"`       // the daemon had the session in memory
	Delivery    Delivery   `json:"delivery,omitempty"`
	Kind        fault.Kind `json:"kind,omitempty"`    // why it was refused
	Message     string     `json:"message,omitempty"` // the same in words
	Reason      string     `json:"reason,omitempty"`
	Endpoint    string     `json:"endpoint,omitempty"` // id of the endpoint, which is no secret
	// STSEndpoint is where the calls went or would have gone, unless that is AWS's own endpoint of the region: one
	// URL, or several with ", " between.
	STSEndpoint string `json:"sts_endpoint,omitempty"`
	Missed      int    `json:"missed,omitempty"` // of a gap: how many lines could not be written
	// UID and PID are of the process that asked, from the kernel; for an endpoint, of the process that owns it.
	UID int `json:"uid"`
	PID int `json:"pid,omitempty"`
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
	path string
	now  func() time.Time

	mu     sync.Mutex
	file   *os.File     // nil until the first line, and while it cannot be opened
	opened system.Stamp // of the open file
	size   int64
	line   bytes.Buffer // the line that is being written
	gone   string       // what happened to the previous file, or ""
	missed int
	failed error // the current write error, after the warning about it
	warn   func(error)
}

// New returns a Log. A missing file is created with its first line, with mode 0600; its directory must exist.
// Before each line, the Log checks that the open file still has its name, and reopens it otherwise. warn is called
// each time that writing starts to fail.
func New(path string, warn func(error)) *Log {
	return &Log{path: path, warn: warn, now: time.Now}
}

func (l *Log) openLocked() error {
	f, err := record.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, record.Guarded)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.file, l.opened, l.size = f, system.StampOf(info), info.Size()
	return nil
}

// lookLocked compares the open file with the file at the log's path. If that is another file, or lines are
// missing, it closes the file, so that the next write reopens it, and records what it saw in gone. This costs one
// system call.
func (l *Log) lookLocked() {
	if l.file == nil {
		return
	}
	found, err := system.StampOfPath(l.path, false)
	switch {
	case err != nil:
	case found == system.Stamp{}:
		l.gone = "the log with the earlier lines was removed"
	case !found.SameFile(l.opened):
		l.gone = "the log with the earlier lines was replaced"
		if aside, err := system.StampOfPath(l.path+".1", false); err == nil && aside.SameFile(l.opened) {
			l.gone = "" // set aside by the previous or the next daemon
		}
	case found.Size < l.size:
		l.gone = "the log with the earlier lines was truncated"
	case found.Mode != l.opened.Mode:
	default:
		l.size = found.Size
		return
	}
	_ = l.file.Close()
	l.file = nil
}

// Record writes a line for each event: all, or none. It escapes each text with fault.Line, because names of profiles
// and programs are chosen by others. If the write fails (such as on a full disk), a later line with the event "gap"
// says how many lines are missing.
func (l *Log) Record(events ...Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookLocked()
	err := l.gapLocked()
	if err == nil {
		err = l.writeLocked(events...)
	}
	if err == nil {
		l.failed = nil
		return nil
	}
	l.missed += len(events)
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

// gapLocked writes a line that says how many lines are missing and what happened to the log, if anything did.
func (l *Log) gapLocked() error {
	if l.missed == 0 && l.gone == "" {
		return nil
	}
	if err := l.writeLocked(Event{Event: "gap", UID: os.Getuid(), Missed: l.missed, Message: l.gone}); err != nil {
		return err
	}
	l.missed, l.gone = 0, ""
	return nil
}

func (l *Log) writeLocked(events ...Event) error {
	l.line.Reset()
	for i := range events {
		if err := l.encodeLocked(events[i]); err != nil {
			return err
		}
	}
	line := l.line.Bytes()
	if l.file == nil {
		if err := l.openLocked(); err != nil {
			return err
		}
	}
	if l.size+int64(len(line)) > maxSize {
		if err := l.turnLocked(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if err != nil && n > 0 {
		// A partial line would corrupt the next one.
		if l.file.Truncate(l.size-int64(n)) == nil {
			l.size -= int64(n)
		}
	}
	return err
}

// encodeLocked appends the line of an event to l.line.
func (l *Log) encodeLocked(e Event) error {
	out := lineJSON{Time: l.now().UTC().Format(millis), Event: &e}
	if e.Expires != nil {
		out.Expires = e.Expires.UTC().Format(time.RFC3339)
	}
	for _, text := range []*string{&e.Profile, &e.Account, &e.Source, &e.Role, &e.SessionName, &e.KeyID, &e.Message,
		&e.Reason, &e.Endpoint, &e.STSEndpoint} {
		*text = fault.Line(*text)
	}
	e.Delivery = Delivery(fault.Line(string(e.Delivery)))
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
	_ = l.file.Close()
	l.file = nil
	return l.openLocked()
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
