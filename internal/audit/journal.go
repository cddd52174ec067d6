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

// JournalHead is a head that the journal has.
type JournalHead struct {
	Head
	At time.Time // when the journal got it
}

// String names the line for people.
func (h JournalHead) String() string {
	return fmt.Sprintf("line %d of %s", h.Lines, h.At.Local().Format(time.DateTime))
}

// sendHeadLocked sends the head to the journal, if it is due or must is set.
func (l *Log) sendHeadLocked(must bool) {
	now := l.now()
	since := now.Sub(l.sent.At)
	if l.Journal == "" || l.chain.Head == l.sent.Head || !must && since >= 0 && since < journalInterval {
		return
	}
	l.sent = JournalHead{l.chain.Head, now}
	sendHead(l.Journal, l.path, l.chain.Head)
}

// sendHead sends a head in the protocol of https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. It drops what cannot be sent
// at once. The text of a field must not have a line end.
func sendHead(socket, log string, h Head) {
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
	// journalMost is how many heads are read, and journalLimit how many bytes. journalPatience is how long that may
	// take: a large journal on a slow disk takes seconds.
	journalMost     = 2000
	journalLimit    = 8 << 20
	journalPatience = 20 * time.Second
)

// JournalHeads returns the heads of a log that journald got from programs of this user, the newest first.
func JournalHeads(ctx context.Context, log string) ([]JournalHead, error) {
	program, err := child.Find("journalctl")
	if err != nil {
		return nil, ErrNoJournal
	}
	out, err := child.Command{Program: program, Limit: journalLimit, Timeout: journalPatience, Args: []string{"--quiet",
		"--no-pager", "--output=json", "--reverse", "--lines=" + strconv.Itoa(journalMost),
		"_UID=" + strconv.Itoa(os.Getuid()), journalLog + "=" + log}}.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("journalctl %w", err)
	}
	var list []JournalHead
	for line := range bytes.Lines(out) {
		var entry map[string]any
		if json.Unmarshal(line, &entry) != nil {
			continue
		}
		text := func(name string) string { s, _ := entry[name].(string); return s }
		n, err := strconv.ParseInt(text(journalLines), 10, 64)
		at, err2 := strconv.ParseInt(text("__REALTIME_TIMESTAMP"), 10, 64)
		if err == nil && err2 == nil && len(text(journalHead)) > 0 {
			list = append(list, JournalHead{Head{n, text(journalHead)}, time.UnixMicro(at)})
		}
	}
	return list, nil
}
