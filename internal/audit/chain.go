package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"broker/internal/record"
	"broker/internal/system"
)

// Head is the end of the chain of lines. The daemon keeps it in a file beside the log, so that a cut at the end of
// the log is found also when no daemon runs.
type Head struct {
	Lines int64  // number of lines that were ever written
	Sum   string // of the last line, as in Event.Prev; empty for an empty log
}

// headSize is the size of the file with the head: 20 digits, a blank, the sum and a line end.
const headSize = 20 + 1 + 2*sha256.Size + 1

func headPath(log string) string { return strings.TrimSuffix(log, ".log") + ".head" }

// SumOf returns the SHA-256 of a line without its line end.
func SumOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// readHead reads the head. It returns false if the file is empty or damaged.
func readHead(f io.ReaderAt) (h Head, ok bool) {
	b := make([]byte, headSize+1)
	n, err := f.ReadAt(b, 0)
	if n != headSize || !errors.Is(err, io.EOF) {
		return Head{}, false
	}
	_, err = fmt.Sscanf(string(b[:n]), "%d %s\n", &h.Lines, &h.Sum)
	return h, err == nil && string(b[:n]) == h.text()
}

func (h Head) text() string { return fmt.Sprintf("%020d %s\n", h.Lines, h.Sum) }

// chain is the end of the chain, and its file. The lock of that file is held while lines are written: during a
// restart, two daemons write to the log.
type chain struct {
	Head
	torn     bool          // the last line has no line end
	patience time.Duration // how long to wait for the lock: lockTimeout; less in tests
	stuck    bool          // another program held the lock for longer than that
	file     *os.File      // nil until it is opened
	opened   system.Stamp
}

// lockTimeout is how long a Log waits for another one that writes. A stopped program must not stop the daemon.
const lockTimeout = time.Second

// lock opens the file, if it is not open or not at its path any more, and locks it.
func (c *chain) lock(path string) error {
	if c.file != nil {
		if found, err := system.StampOfPath(path, false); err == nil && found.SameFile(c.opened) {
			return c.waitLock()
		}
		_ = c.close()
	}
	f, err := record.OpenFile(path, os.O_RDWR|os.O_CREATE, record.Guarded)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	c.file, c.opened = f, system.StampOf(info)
	return c.waitLock()
}

// waitLock locks the file. After a program has held the lock for too long, it does not wait again until it gets the
// lock, so that a stopped program delays one line, not each.
func (c *chain) waitLock() error {
	patience := c.patience
	if c.stuck {
		patience = 0
	}
	locked, err := lockWithin(patience, c.file)
	c.stuck = err == nil && !locked
	return err
}

// lockWithin waits for the lock of a file. It returns false if another program still holds the lock.
func lockWithin(d time.Duration, f *os.File) (locked bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	err = system.TryLock(f)
	if errors.Is(err, system.ErrLocked) {
		err = system.LockUntil(ctx, f)
	}
	if errors.Is(err, system.ErrLocked) {
		return false, nil
	}
	return err == nil, err
}

func (c *chain) unlock() {
	if c.file != nil {
		_ = system.Unlock(c.file)
	}
}

func (c *chain) close() error {
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}

// advance makes h the head, after its line was written. The file is overwritten in place and not synchronized: after
// a crash it may be older than the log, but it is one of the log's lines.
func (c *chain) advance(h Head) error {
	c.Head, c.torn = h, false
	_, err := c.file.WriteAt([]byte(h.text()), 0)
	return err
}

// Reasons for a gap that are found when the log is opened.
const (
	goneRemoved = "the log with the earlier lines was removed"
	goneCut     = "the last lines were removed or changed while no daemon wrote"
	goneHead    = "the file with the head of the log was removed or changed while no daemon wrote"
	goneTorn    = "the last line is incomplete"
)

// findEndLocked finds the end of the chain after the log was opened: its last line, which must be the one that the
// head names. If it is not, gone says so.
func (l *Log) findEndLocked() error {
	last, torn, err := lastLine(l.file, l.size)
	if err == nil && l.size == 0 {
		last, err = l.lastAside()
	}
	if err != nil {
		l.closeLocked()
		return err
	}
	gone := ""
	stored, ok := readHead(l.chain.file)
	end := Head{Lines: stored.Lines}
	if last != nil {
		end.Sum = SumOf(last)
	}
	switch {
	case ok && end.Sum == stored.Sum:
	case last == nil && ok:
		gone = goneRemoved
	case last == nil: // a new log
	case !ok:
		var e Event
		if json.Unmarshal(last, &e) != nil || e.Prev != "" { // otherwise an older version wrote it
			gone = goneHead
		}
		end.Lines, _ = l.linesAfter("")
	default:
		// A daemon may have been killed after it wrote lines, and before it wrote the head.
		if after, found := l.linesAfter(stored.Sum); found {
			end.Lines += after
		} else {
			gone = goneCut
		}
	}
	if torn {
		gone = goneTorn
	}
	l.chain.Head, l.chain.torn = end, torn
	if l.gone == "" {
		l.gone = gone
	}
	return nil
}

// lastAside returns the last line of the log that was set aside last, or nil.
func (l *Log) lastAside() ([]byte, error) {
	f, err := record.OpenFile(l.path+".1", os.O_RDONLY, record.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	last, _, err := lastLine(f, info.Size())
	return last, err
}

// lastLine returns the last line of a file, without its line end. It returns nil for an empty file. torn means that
// the line has no end.
func lastLine(f io.ReaderAt, size int64) (line []byte, torn bool, err error) {
	for part := int64(16 << 10); ; part *= 8 {
		from := max(0, size-part)
		b := make([]byte, size-from)
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		text, ended := bytes.CutSuffix(b, []byte("\n"))
		begin := bytes.LastIndexByte(text, '\n') + 1
		switch {
		case size == 0:
			return nil, false, nil
		case begin > 0 || from == 0:
			return text[begin:], !ended, nil
		}
	}
}

// linesAfter returns how many lines follow the line with this sum, or if none has it, how many there are.
func (l *Log) linesAfter(sum string) (n int64, found bool) {
	r, err := openReader(l.path)
	if err != nil {
		return 0, false
	}
	defer r.Close()
	for line := range r.Backward() {
		if SumOf(line.Text) == sum {
			return n, true
		}
		n++
	}
	return n, false
}
