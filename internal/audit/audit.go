// Package audit owns the audit log: one JSON line for each credential that
// was given out and each one that was refused. It refuses secrets: an Event has no field
// for one. Access key ids are not secret and are in full, since they are what CloudTrail
// shows and what one searches for.
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

// Event is one line of the log.
//
//	field      what
//	time       RFC 3339 in UTC, with milliseconds
//	event      "given", "used" (the session listed an organisation, and stayed in the daemon), "refused", "login",
//	           "logout", "lock", "unlock", "passphrase", "published", "unpublished", "unpublish", "start", "stop",
//	           "handover" (to the process of that pid), "gap";
//	           of an endpoint: "lease" (a program was given one), "served" (it gave a session), "revoked" (closed for wrong tokens)
//	profile    the profile or source asked for, as it was asked
//	source     whose long-lived key is at the root
//	role       ARN of the role, if one was assumed
//	key_id     access key id of the session that was given
//	expires    of that session
//	kind       why it was refused: a fault.Kind
//	message    the same in words
//	reason     of a lock: "asked", "unused", "suspend", "screen" or "elsewhere" (another daemon of this home was locked);
//	           of a passphrase for unlock: "set" or "removed"
//	uid, pid   of the process that asked, from the kernel; at an endpoint of the process that it was given to
//	endpoint   id of the endpoint at which it was asked
//	sts_endpoint  where the calls went or would go, if that is not AWS's own place of the region
//	program    its name
//	parent     path of the program that started it: the tool behind credproc
//	missed     of a gap: how many lines could not be written; its message says if the log was removed, replaced or
//	           cut short, so that lines before it may be missing
type Event struct {
	Time    time.Time  `json:"time"`
	Event   string     `json:"event"`
	Profile string     `json:"profile,omitempty"`
	Source  string     `json:"source,omitempty"`
	Role    string     `json:"role,omitempty"`
	KeyID   string     `json:"key_id,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Kind    fault.Kind `json:"kind,omitempty"`
	Message string     `json:"message,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	UID     int        `json:"uid"`
	PID     int        `json:"pid,omitempty"`
	Program string     `json:"program,omitempty"`
	Parent  string     `json:"parent,omitempty"`
	Missed  int        `json:"missed,omitempty"`
	// Endpoint is its id, which is no secret.
	Endpoint string `json:"endpoint,omitempty"`
	// STSEndpoint is one URL, or several with ", " between.
	STSEndpoint string `json:"sts_endpoint,omitempty"`
}

// lineJSON is an Event as it is written. Its times replace those of the Event: a text costs a third of a time.Time.
type lineJSON struct {
	Time string `json:"time"`
	*Event
	Expires string `json:"expires,omitempty"`
}

// millis is RFC 3339 with milliseconds, in UTC.
const millis = "2006-01-02T15:04:05.000Z"

const (
	// maxSize is where the log is set aside and a new one begun; keep is how
	// many of those stay.
	maxSize = 16 << 20
	keep    = 4
)

// Log appends to a file. Its zero value is not usable; see New.
type Log struct {
	path string
	now  func() time.Time

	mu     sync.Mutex
	file   *os.File     // nil until the first line, and while it cannot be opened
	opened system.Stamp // of that file
	size   int64
	line   bytes.Buffer // the one that is written
	gone   string       // what happened to the log that lines were written to; empty for nothing
	missed int
	failed error // why nothing can be written just now, which was said
	warn   func(error)
}

// New makes a Log. The file is made, 0600, with its first line if it is missing; the directory must exist. Before each
// line the file is compared with the one that has the name, and opened again if that is another. warn is called once
// for each time that writing starts to fail.
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

// lookLocked compares the open log with the file that has its name. If that is another one, or has lost lines, the log
// is opened again, and gone says what was seen. It costs one system call.
func (l *Log) lookLocked() {
	if l.file == nil {
		return
	}
	found, err := system.StampOfPath(l.path, false)
	switch {
	case err != nil:
	case found == system.Stamp{}:
		l.gone = "the log before this line was removed"
	case !found.SameFile(l.opened):
		l.gone = "the log before this line was replaced"
		if aside, err := system.StampOfPath(l.path+".1", false); err == nil && aside.SameFile(l.opened) {
			l.gone = "" // set aside by the daemon before or after this one
		}
	case found.Size < l.size:
		l.gone = "the log before this line was cut short"
	case found.Mode != l.opened.Mode:
	default:
		l.size = found.Size
		return
	}
	_ = l.file.Close()
	l.file = nil
}

// Record writes one line, each of its texts as fault.Line shows it: names of profiles and of programs are
// chosen by others. Where that fails (no space) a line of the kind "gap" says
// later how many are missing.
func (l *Log) Record(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookLocked()
	err := l.gapLocked()
	if err == nil {
		err = l.writeLocked(e)
	}
	if err == nil {
		l.failed = nil
		return nil
	}
	l.missed++
	first := l.failed == nil
	l.failed = fmt.Errorf("the audit log cannot be written: %w", err)
	if first {
		l.warn(l.failed)
	}
	return l.failed
}

// Failing is why the last line could not be written; nil where it could.
func (l *Log) Failing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// gapLocked says how many lines are missing, if any are, and what happened to the log.
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

func (l *Log) writeLocked(e Event) error {
	out := lineJSON{Time: l.now().UTC().Format(millis), Event: &e}
	if e.Expires != nil {
		out.Expires = e.Expires.UTC().Format(time.RFC3339)
	}
	for _, text := range []*string{
		&e.Profile, &e.Source, &e.STSEndpoint, &e.Role, &e.KeyID, &e.Message, &e.Reason, &e.Program, &e.Parent, &e.Endpoint,
	} {
		*text = fault.Line(*text)
	}
	e.Kind = fault.Kind(fault.Line(string(e.Kind)))
	l.line.Reset()
	if err := json.NewEncoder(&l.line).Encode(&out); err != nil {
		return err
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
		// Half a line would spoil the next one.
		if l.file.Truncate(l.size-int64(n)) == nil {
			l.size -= int64(n)
		}
	}
	return err
}

// turnLocked sets the full log aside: audit.log.1 is the newest of the old ones.
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

// Close ends it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
