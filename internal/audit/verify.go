package audit

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broker/internal/fault"
)

// Finding is one thing that is wrong with a log.
type Finding struct {
	File string // base name
	Line int    // from 1; 0 for the whole file
	What string
}

// String returns the finding as one line.
func (f Finding) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

// Report is the result of Verify.
type Report struct {
	Lines     int // number of lines
	Unchained int // number of lines at the beginning that an older version wrote
	Files     int
	// Missing is the number of lines before the first one, by the count of the head. Rotation removes them, or another
	// program.
	Missing  int64
	First    time.Time // of the first line
	Findings []Finding
	Known    int // number of heads that Compare found in the log

	sums map[string]int // index of each line, from 0
	head Head
}

// verification is the state of one Verify.
type verification struct {
	*Reader
	*Report
	first   Event
	last    string // sum of the last line
	chained bool   // a line names the one before it
	missing bool   // a file
	cut     int    // number of the finding that lines before the first one are missing, from 1; 0 for none
}

// Verify checks that each line follows the line before it, that no file is missing, and that the last line is the
// head of the log. The oldest file may begin with any line if rotation has removed the files before it.
func (r *Reader) Verify() Report {
	rep := Report{Files: len(r.files), sums: map[string]int{}, head: r.head}
	v := &verification{Reader: r, Report: &rep}
	v.checkFiles()
	for line, err := range r.Forward() {
		if err != nil {
			v.found(line.File, 0, "it cannot be read: %s", fault.Line(err.Error()))
			continue
		}
		v.checkLine(line)
	}
	if rep.Unchained == 1 && (v.chained || r.hasHead) {
		rep.Unchained = 0 // the first line of a chain
	}
	v.checkHead()
	return rep
}

func (v *verification) found(file string, line int, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{file, line, fmt.Sprintf(format, args...)})
}

// checkFiles finds files that are missing or too small.
func (v *verification) checkFiles() {
	next := 0
	for _, f := range v.files {
		for ; next < f.number; next++ {
			v.missing = true
			v.found(v.nameOf(next), 0, "the file is missing")
		}
		next++
	}
	for _, f := range slices.Backward(v.files) {
		// Broker sets a file aside when the next lines would make it larger than this, and these are few.
		if f.number > 0 && f.size < v.most/2 {
			v.found(f.name(), 0, "it has %d bytes, which is smaller than any file that Broker sets aside: lines were "+
				"removed, or another program set it aside", f.size)
		}
	}
}

// checkLine compares a line with the one before it.
func (v *verification) checkLine(line Line) {
	var e Event
	err := json.Unmarshal(line.Text, &e)
	isFirst := v.Lines == 0
	if isFirst {
		v.first, v.First = e, e.Time
	}
	oldest := v.files[len(v.files)-1].number
	switch {
	case err != nil:
		v.found(line.File, line.Number, "this is not a line of the audit log: it was changed or cut")
	case line.Torn:
		v.found(line.File, line.Number, "the line is cut: it has no end")
	case e.Prev == "" && !v.chained:
		v.Unchained++
	case isFirst && oldest < keep:
		v.found(line.File, line.Number, "lines before it are missing, and there is no %s",
			v.nameOf(oldest+1))
		v.cut = len(v.Findings)
	case !isFirst && e.Prev != v.last:
		v.found(line.File, line.Number, "it does not follow the line before it: a line was changed, added or removed")
	}
	if err == nil && e.Event == "gap" {
		what := fault.Line(e.Message)
		if e.Missed > 0 {
			what = linesOf(int64(e.Missed)) + " could not be written"
			if e.Message != "" {
				what += "; " + fault.Line(e.Message)
			}
		}
		v.found(line.File, line.Number, "gap: %s", what)
	}
	v.chained = v.chained || e.Prev != ""
	v.last = SumOf(line.Text)
	v.sums[v.last] = v.Lines
	v.Lines++
}

// checkHead compares the head with the lines.
func (v *verification) checkHead() {
	found := func(format string, args ...any) { v.found(filepath.Base(headPath(v.path)), 0, format, args...) }
	head := v.Reader.head
	at, known := v.sums[head.Sum]
	switch {
	case !v.hasHead && (v.chained || v.missing):
		found("the head of the log is missing or damaged")
	case !v.hasHead:
	case !known:
		found("the log does not have line %d, the last one that was written: it was changed or removed", head.Lines)
	case len(v.Findings) > 0:
	case v.first.Prev != "" && head.Lines == int64(at+1):
		found("the head counts %s, but the first of them names a line before it", linesOf(head.Lines))
	case head.Lines < int64(at+1), v.first.Prev == "" && head.Lines != int64(at+1):
		found("the head counts %s, and the log has %d up to it", linesOf(head.Lines), at+1)
	case at < v.Lines-1:
		found("after the last line that the head knows, the log has %s: another program added them, or the daemon was "+
			"killed while it wrote", linesOf(int64(v.Lines-1-at)))
	}
	if known {
		v.Missing = max(0, head.Lines-int64(at+1))
	}
	if v.cut > 0 && v.Missing > 0 {
		before := linesOf(v.Missing) + " before it are"
		if v.Missing == 1 {
			before = "1 line before it is"
		}
		f := &v.Findings[v.cut-1]
		f.What = strings.Replace(f.What, "lines before it are", before, 1)
	}
}

// linesOf returns a number of lines in words.
func linesOf(n int64) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

func (r *Reader) nameOf(number int) string {
	if number == 0 {
		return filepath.Base(r.path)
	}
	return fmt.Sprintf("%s.%d", filepath.Base(r.path), number)
}

// Compare adds a finding if heads that the journal has, the newest first, are not in the log. It skips heads that
// are older than the log.
func (rep *Report) Compare(heads []JournalHead) {
	found := func(format string, args ...any) {
		rep.Findings = append(rep.Findings, Finding{"journald", 0, fmt.Sprintf(format, args...)})
	}
	oldest := rep.head.Lines - int64(rep.Lines) + 1
	end, headKnown := rep.sums[rep.head.Sum]
	if headKnown {
		oldest = rep.head.Lines - int64(end)
	}
	var missing []JournalHead
	moved := false
	for _, h := range heads {
		switch at, known := rep.sums[h.Sum]; {
		case known:
			rep.Known++
			if line := oldest + int64(at); headKnown && !moved && h.Lines != line {
				moved = true // say so once
				found("%s is line %d by the head of the log: lines were removed, or the head was changed", h, line)
			}
		case h.Lines >= oldest:
			missing = append(missing, h)
		}
	}
	if len(missing) == 0 && rep.Known == 0 && len(heads) > 0 && rep.Lines > 0 {
		found("no line of the log is known there; the newest one, %s, is before its first line: the log or its head was "+
			"replaced, or nothing reached journald since", heads[0])
	}
	switch len(missing) {
	case 0:
	case 1:
		found("the log does not have %s, which is known there: it was changed or removed", missing[0])
	default:
		found("the log does not have %s, and %d others that are known there: they were changed or removed", missing[0],
			len(missing)-1)
	}
}
