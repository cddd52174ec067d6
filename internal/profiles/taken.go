package profiles

import (
	"bytes"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// TakenOut is what TakeOut removed from one file. It contains secrets, and is stored only in the keyring.
type TakenOut struct {
	File   string     `json:"file"`
	At     time.Time  `json:"at"`
	Before string     `json:"before_sha256"`
	After  string     `json:"after_sha256"`
	Pieces []cutPiece `json:"pieces"`
	Keys   []takenKey `json:"keys"`
}

// takenKey is a key that was removed.
type takenKey struct {
	Profile string `json:"profile"`
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Secret  string `json:"secret"`
}

// TakeOut removes these keys from the content of their file, and then whatever also removes. The error is that of
// SetSection or of also, or a fault.Failed if the file has other keys in their place now.
func TakeOut(
	file string,
	src []byte,
	keys []Plain,
	also func([]byte) ([]byte, error),
) (dst []byte, t TakenOut, err error) {
	t = TakenOut{File: file, At: time.Now().UTC().Truncate(time.Second), Before: digest(src)}
	dst = src
	for _, key := range keys {
		if dst, err = RemovePlainKey(dst, key.Kind, key.Profile); err != nil {
			return nil, t, err
		}
		t.Keys = append(t.Keys, takenKey{key.Profile, key.Kind, key.AccessKeyID, key.Secret.Reveal()})
	}
	if dst, err = also(dst); err != nil {
		return nil, t, err
	}
	if bytes.Equal(src, dst) {
		return src, t, nil
	}
	if t.Pieces, err = pieces(src, dst); err != nil {
		return nil, t, err
	}
	t.After = digest(dst)
	var out []byte
	for _, piece := range t.Pieces {
		out = append(out, piece.Text...)
	}
	for _, key := range t.Keys {
		// The user replaced a key in the meantime. Do not throw the new key away.
		if !bytes.Contains(out, []byte(key.ID)) || !bytes.Contains(out, []byte(key.Secret)) {
			return nil, t, fault.New(fault.Failed, "%s was changed in the meantime", file).WithHint("broker import")
		}
	}
	return dst, t, nil
}

// PutBack undoes TakeOut. If the file is as TakeOut left it, or as it was before, the result has the original
// bytes and exact is true. Otherwise PutBack adds only the keys. The errors are those of SetSection; a section
// that has another key now is a fault.Config.
func (t TakenOut) PutBack(src []byte) (dst []byte, exact bool, err error) {
	if digest(src) == t.Before {
		return src, true, nil // an earlier undo, or an interrupted import, already has this content
	}
	if dst = restore(src, t.Pieces); digest(src) == t.After && digest(dst) == t.Before {
		return dst, true, nil
	}
	dst = src
	for _, key := range t.Keys {
		plain := Plain{Profile: key.Profile, Kind: key.Kind, AccessKeyID: key.ID, Secret: secret.New(key.Secret)}
		if dst, err = setPlainKey(dst, plain); err != nil {
			return nil, false, err
		}
	}
	return dst, false, nil
}

// WithoutKeys returns what remains of all without the keys that have these ids, and the files into which PutBack
// would have restored one of these keys. A TakenOut that also has other keys still restores those, but no longer
// every byte around them.
func WithoutKeys(all []TakenOut, ids []string) (left []TakenOut, files []string) {
	for _, t := range all {
		keys := slices.DeleteFunc(slices.Clone(t.Keys), func(key takenKey) bool { return slices.Contains(ids, key.ID) })
		if len(keys) < len(t.Keys) {
			t.Keys, t.Pieces = keys, nil
			if !slices.Contains(files, t.File) {
				files = append(files, t.File)
			}
		}
		if len(t.Keys) > 0 {
			left = append(left, t)
		}
	}
	return left, files
}

// cutPiece is a range of lines that were removed from a file: the bytes, and the offset in the rest of the file.
type cutPiece struct {
	Offset int    `json:"offset"`
	Text   []byte `json:"text"`
}

// pieces returns what was removed from a file, so that restore can return every byte. The error is a
// fault.Internal if after is not before without some of its lines.
func pieces(before, after []byte) ([]cutPiece, error) {
	var cut []cutPiece
	offset, adjoins := 0, false
	if bytes.HasPrefix(before, byteOrderMark) &&
		bytes.HasPrefix(after, byteOrderMark) { // the mark stays, whichever line is the first
		offset, before = len(byteOrderMark), before[len(byteOrderMark):]
	}
	for len(before) > 0 {
		line := firstLine(before)
		before = before[len(line):]
		if bytes.Equal(line, firstLine(after[offset:])) && len(line) > 0 {
			offset, adjoins = offset+len(line), false
			continue
		}
		if adjoins {
			last := &cut[len(cut)-1]
			last.Text = append(last.Text, line...)
			continue
		}
		cut, adjoins = append(cut, cutPiece{offset, bytes.Clone(line)}), true
	}
	if offset != len(after) {
		return nil, fault.New(fault.Internal, "the change to the file does not only remove whole lines")
	}
	return cut, nil
}

// restore puts the pieces back.
func restore(after []byte, pieces []cutPiece) []byte {
	var all []byte
	at := 0
	for _, p := range pieces {
		offset := min(max(p.Offset, at), len(after))
		all = append(append(all, after[at:offset]...), p.Text...)
		at = offset
	}
	return append(all, after[at:]...)
}
