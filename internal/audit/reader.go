package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"broker/internal/record"
	"broker/internal/system"
)

// Reader reads a log with all files that were set aside, as they were when it was opened. It needs no daemon.
type Reader struct {
	path    string
	most    int64     // size at which a log is set aside
	files   []logFile // the newest first
	head    Head
	hasHead bool
}

// logFile is one file of a log. Number is 0 for the log itself, and grows with the age.
type logFile struct {
	*os.File
	number int
	size   int64
}

func (f logFile) name() string { return filepath.Base(f.Name()) }

// Line is one line, without its line end.
type Line struct {
	File   string // base name
	Number int    // from 1
	Text   []byte
	Torn   bool // it has no line end
}

// OpenReader opens a log at a moment when no line is being written. A missing log has no lines.
func OpenReader(path string) (*Reader, error) {
	head, err := record.OpenFile(headPath(path), os.O_RDONLY, record.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return openReader(path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = head.Close() }() // and release the lock
	if _, err := lockWithin(lockTimeout, head); err != nil {
		return nil, err
	}
	r, err := openReader(path)
	if err == nil {
		r.head, r.hasHead = readHead(head)
	}
	return r, err
}

// openReader opens the files of a log without its lock and head.
func openReader(path string) (*Reader, error) {
	r := &Reader{path: path, most: maxSize}
	for i := 0; i <= keep; i++ {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		f, err := record.OpenFile(name, os.O_RDONLY, record.Guarded)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			r.Close()
			return nil, err
		}
		r.files = append(r.files, logFile{f, i, 0})
		info, err := f.Stat()
		if err != nil {
			r.Close()
			return nil, err
		}
		r.files[len(r.files)-1].size = info.Size()
	}
	return r, nil
}

// Close closes the files.
func (r *Reader) Close() {
	for _, f := range r.files {
		_ = f.Close()
	}
}

// Empty reports whether there is no log at all.
func (r *Reader) Empty() bool { return len(r.files) == 0 && !r.hasHead }

// Path returns the path of the log.
func (r *Reader) Path() string { return r.path }

// text reads a file as it was when the Reader was opened.
func (f logFile) text() ([]byte, error) {
	b := make([]byte, f.size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil // it was cut meanwhile
	}
	return b[:n], err
}

// Backward yields all lines, the newest first, without their numbers. It skips files that cannot be read.
func (r *Reader) Backward() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for _, f := range r.files {
			text, err := f.text()
			if err != nil {
				continue
			}
			for len(text) > 0 {
				rest, ended := bytes.CutSuffix(text, []byte("\n"))
				begin := bytes.LastIndexByte(rest, '\n') + 1
				if !yield(Line{File: f.name(), Text: rest[begin:], Torn: !ended}) {
					return
				}
				text = text[:begin]
			}
		}
	}
}

// Forward yields all lines, the oldest first, and the errors of files that cannot be read.
func (r *Reader) Forward() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for _, f := range slices.Backward(r.files) {
			text, err := f.text()
			if err != nil && !yield(Line{File: f.name()}, err) {
				return
			}
			number := 0
			for line := range bytes.Lines(text) {
				number++
				whole, ended := bytes.CutSuffix(line, []byte("\n"))
				if !yield(Line{f.name(), number, whole, !ended}, nil) {
					return
				}
			}
		}
	}
}

// followInterval is how often Follow looks for new lines.
const followInterval = 200 * time.Millisecond

// Follow calls each with every line that is written after the Reader was opened, also after the log was set aside or
// replaced. It returns when ctx ends, with the first error of each, or if the log cannot be read.
func (r *Reader) Follow(ctx context.Context, each func(Line) error) error {
	var f *os.File
	var at int64
	if len(r.files) > 0 && r.files[0].number == 0 {
		f, at = r.files[0].File, r.files[0].size
	}
	opened := false // f is ours to close
	defer func() {
		if opened {
			_ = f.Close()
		}
	}()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		// Look for another file first: what the old one still gets is read below before the change.
		next, err := record.OpenFile(r.path, os.O_RDONLY, record.Guarded)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f != nil {
			if at, err = follow(f, at, each); err != nil {
				if next != nil {
					_ = next.Close()
				}
				return err
			}
		}
		switch {
		case next == nil:
		case f != nil && sameFile(f, next):
			_ = next.Close()
		default:
			if opened {
				_ = f.Close()
			}
			f, at, opened = next, 0, true
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	two, err2 := b.Stat()
	return err == nil && err2 == nil && system.StampOf(one).SameFile(system.StampOf(two))
}

// follow calls each with the whole lines of a file from an offset on, and returns the offset after them.
func follow(f *os.File, at int64, each func(Line) error) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return at, err
	}
	if info.Size() < at {
		at = 0 // truncated
	}
	b := make([]byte, info.Size()-at)
	n, err := f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return at, err
	}
	for line := range bytes.Lines(b[:n]) {
		whole, ended := bytes.CutSuffix(line, []byte("\n"))
		if !ended {
			break // it is being written
		}
		if err := each(Line{File: filepath.Base(f.Name()), Text: whole}); err != nil {
			return at, err
		}
		at += int64(len(line))
	}
	return at, nil
}
