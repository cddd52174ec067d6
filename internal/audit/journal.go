package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"broker/internal/child"
)

// JournalSocket is where journald listens, see systemd-journald.service(8).
const JournalSocket = "/run/systemd/journal/socket"

// Fields of the heads in the journal.
const (
	journalLog   = "BROKER_AUDIT_LOG"
	journalLines = "BROKER_AUDIT_LINES"
	journalHead  = "BROKER_AUDIT_HEAD"
)

const (
	// journalInterval is how often the journal gets the head while lines are written.
	journalInterval = time.Minute
	// journalTimeout is how long a write to the journal may take. It succeeds at once, or is dropped.
	journalTimeout = time.Millisecond
)

// told is what the journal knows.
type told struct {
	Head
	at time.Time
}

// tellLocked sends the head to the journal, if it is due or must is set.
func (l *Log) tellLocked(must bool) {
	now := l.now()
	since := now.Sub(l.told.at)
	if l.Journal == "" || l.chain.Head == l.told.Head || !must && since >= 0 && since < journalInterval {
		return
	}
	l.told = told{l.chain.Head, now}
	tell(l.Journal, l.path, l.chain.Head)
}

// tell sends a head in the protocol of https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. It drops what cannot be sent at
// once. The text of a field must not have a line end.
func tell(socket, log string, h Head) {
	if !filepath.IsAbs(log) || strings.ContainsRune(log, '\n') {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetWriteDeadline(time.Now().Add(journalTimeout))
	_, _ = fmt.Fprintf(conn, "MESSAGE=audit log: line %d is %s\nPRIORITY=6\nSYSLOG_IDENTIFIER=brokerd\n"+
		journalLog+"=%s\n"+journalLines+"=%d\n"+journalHead+"=%s\n", h.Lines, h.Sum, log, h.Lines, h.Sum)
}

// ErrNoJournal means that this system has no journal.
var ErrNoJournal = errors.New("no journalctl")

const (
	// journalHeads is how many heads are read, and journalLimit how many bytes. journalPatience is how long that may
	// take: a large journal on a slow disk takes seconds.
	journalHeads    = 2000
	journalLimit    = 8 << 20
	journalPatience = 20 * time.Second
)

// Journal returns the heads of a log that journald got from programs of this user, the newest first.
func Journal(ctx context.Context, log string) ([]Told, error) {
	program, err := child.Find("journalctl")
	if err != nil {
		return nil, ErrNoJournal
	}
	out, err := child.Command{Program: program, Limit: journalLimit, Timeout: journalPatience, Args: []string{"--quiet",
		"--no-pager", "--output=json", "--reverse", "--lines=" + strconv.Itoa(journalHeads),
		"_UID=" + strconv.Itoa(os.Getuid()), journalLog + "=" + log}}.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("journalctl %w", err)
	}
	var list []Told
	for line := range bytes.Lines(out) {
		var entry map[string]any
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		text := func(name string) string { s, _ := entry[name].(string); return s }
		n, err := strconv.ParseInt(text(journalLines), 10, 64)
		at, err2 := strconv.ParseInt(text("__REALTIME_TIMESTAMP"), 10, 64)
		if err == nil && err2 == nil && len(text(journalHead)) > 0 {
			list = append(list, Told{Head{n, text(journalHead)}, time.UnixMicro(at)})
		}
	}
	return list, nil
}
