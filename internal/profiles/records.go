package profiles

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"broker/internal/record"
)

// records describe the sections that link has changed. If they are lost, unlink cannot restore the exact bytes,
// but nothing else is lost: the definitions are in the registry. They keep only lines that define a role, and so
// no secret.
type records struct {
	all     map[recordID]*linkRecord
	changed bool
}

type recordID struct{ file, profile string }

// A linkRecord describes one section as it was before link, and how to recognize that the section is still as link
// left it.
type linkRecord struct {
	File    string  `json:"file"`
	Profile string  `json:"profile"`
	Made    bool    `json:"made,omitempty"`    // link also wrote the registry's section
	Created bool    `json:"created,omitempty"` // link created the whole section
	Lead    int     `json:"lead,omitempty"`    // bytes of the separator before a created section
	Length  int     `json:"length"`            // length of the section as link left it
	SHA256  string  `json:"sha256"`
	Pieces  []piece `json:"pieces,omitempty"`
}

// A piece is a part of the section as link left it, and the text that was there before.
type piece struct {
	At     int    `json:"at"`
	Length int    `json:"length"`
	Text   string `json:"text"`
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// recordsFile is the content of the file. Broker 0.1.0 wrote only the list.
type recordsFile struct {
	Version  int           `json:"version"` // 1
	Sections []*linkRecord `json:"sections"`
}

// CheckRecords returns an error if a file is not one that link writes. An empty file is valid.
func CheckRecords(src []byte) error {
	_, err := decodeRecords(src)
	return err
}

func decodeRecords(src []byte) (file recordsFile, err error) {
	if len(src) == 0 {
		return file, nil
	}
	err = record.Decode(src, 1, &file, &file.Sections)
	return file, err
}

// readRecords reads the file. A file that it cannot parse counts as empty.
func readRecords(src []byte) *records {
	r := &records{all: map[recordID]*linkRecord{}}
	if file, err := decodeRecords(src); err == nil {
		for _, rec := range file.Sections {
			if rec != nil {
				r.all[recordID{rec.File, rec.Profile}] = rec
			}
		}
	}
	return r
}

// bytes returns the content of the file, or old if nothing changed.
func (r *records) bytes(old []byte) []byte {
	if !r.changed {
		return old
	}
	list := make([]*linkRecord, 0, len(r.all))
	for _, rec := range r.all {
		list = append(list, rec)
	}
	slices.SortFunc(list, func(a, b *linkRecord) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Profile, b.Profile))
	})
	b, err := json.MarshalIndent(recordsFile{1, list}, "", " ")
	if err != nil {
		return old // not reached: strings and numbers can always be marshaled
	}
	return append(b, '\n')
}

func (r *records) find(file, profile string) *linkRecord { return r.all[recordID{file, profile}] }

func (r *records) drop(file, profile string) {
	if id := (recordID{file, profile}); r.all[id] != nil {
		delete(r.all, id)
		r.changed = true
	}
}

// done records that the registry's section is gone or was never created. The record itself stays, since an editor
// that has the linked file open may save it again.
func (r *records) done(file, profile string) {
	if rec := r.all[recordID{file, profile}]; rec != nil && rec.Made {
		r.changed = true
		if rec.SHA256 == "" {
			delete(r.all, recordID{file, profile})
			return
		}
		copied := *rec
		copied.Made = false
		r.all[recordID{file, profile}] = &copied
	}
}

// put keeps a record. If it replaces another record for the same bytes, or the record from which the original was
// restored, it inherits that record's knowledge of the registry. This matters after an interrupted link: the
// second run finds the definition already in the registry.
func (r *records) put(rec, restored *linkRecord) {
	id := recordID{rec.File, rec.Profile}
	old := r.all[id]
	if restored != nil {
		rec.Made = restored.Made
	} else if old != nil && old.SHA256 == rec.SHA256 && slices.Equal(old.Pieces, rec.Pieces) {
		rec.Made = rec.Made || old.Made
	}
	if old != nil && reflect.DeepEqual(old, rec) {
		return
	}
	r.all[id] = rec
	r.changed = true
}

// describes reports whether text begins with the section as link left it.
func (rec *linkRecord) describes(text []byte) bool {
	return 0 <= rec.Length && rec.Length <= len(text) && digest(text[:rec.Length]) == rec.SHA256
}

// restore returns the section as it was before link. ok is false if the section changed since link.
func (rec *linkRecord) restore(src []byte, s *section) (base []byte, ok bool) {
	if !rec.describes(src[s.start:]) {
		return nil, false
	}
	text, rest := src[s.start:s.start+rec.Length], src[s.start+rec.Length:]
	// A record of an older Broker may end before the line end.
	if len(eolOf(text)) == 0 && len(rest) > 0 && rest[0] != '\n' && rest[0] != '\r' {
		return nil, false
	}
	var out []byte
	at := 0
	for _, p := range rec.Pieces {
		if p.At < at || p.Length < 0 || p.At+p.Length > len(text) {
			return nil, false
		}
		out = append(append(out, text[at:p.At]...), p.Text...)
		at = p.At + p.Length
	}
	out = append(out, text[at:]...)
	if len(eolOf(out)) == 0 {
		out = append(out, eolOf(text)...)
	}
	// A key that was added after the section must not become a part of its last line. A key that link removes was
	// there before link ran.
	d, bad := scan(out, true)
	if bad != nil || len(d.sections) != 1 {
		return nil, false
	}
	last := -1
	if n := len(d.sections[0].entries); n > 0 {
		last = d.sections[0].entries[n-1].indent
	}
	for _, e := range s.entries {
		inside := e.end-len(eolOf(src[e.start:e.end])) <= s.start+rec.Length
		if inside {
			continue
		}
		if e.start < s.start+rec.Length || last >= 0 && e.indent > last || isMovedKey(e.key) ||
			strings.EqualFold(string(e.key), keyCredentialProcess) {
			return nil, false
		}
	}
	return out, true
}
