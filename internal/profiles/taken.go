package profiles

import (
	"bytes"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// TakenOut is what TakeOut took out of one file. It holds secrets, and is kept in the keyring alone.
type TakenOut struct {
	File   string     `json:"file"`
	At     time.Time  `json:"at"`
	Before string     `json:"before_sha256"`
	After  string     `json:"after_sha256"`
	Pieces []cutPiece `json:"pieces"`
	Keys   []takenKey `json:"keys"`
}

// takenKey is a key that was taken out.
type takenKey struct {
	Profile string `json:"profile"`
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Secret  string `json:"secret"`
}

// TakeOut takes these keys out of the content of their file, and then what also removes. The error is that of
// SetSection or of also, or fault.Failed where the file holds other keys in their place by now.
func TakeOut(file string, src []byte, keys []Plain, also func([]byte) ([]byte, error)) (dst []byte, t TakenOut, err error) {
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
		// The user replaced a key meanwhile: his is not thrown away.
		if !bytes.Contains(out, []byte(key.ID)) || !bytes.Contains(out, []byte(key.Secret)) {
			return nil, t, fault.New(fault.Failed, "%s was changed meanwhile", file).WithHint("broker import")
		}
	}
	return dst, t, nil
}

// PutBack is the inverse: byte for byte, and exact, where the file is as TakeOut left it or was before, else the keys
// alone. Errors are those of SetSection; a section that has another key by now is fault.Config.
func (t TakenOut) PutBack(src []byte) (dst []byte, exact bool, err error) {
	if digest(src) == t.Before {
		return src, true, nil // this far an undo, or an import, came before
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

// WithoutKeys is what is left of all once the keys with these ids are taken out of it, and the files that would have
// got one of them back. A TakenOut of other keys too puts those back, and no longer every byte around them.
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

// cutPiece is some lines that were taken out of a file: the bytes, and the offset in what was left of it.
type cutPiece struct {
	Offset int    `json:"offset"`
	Text   []byte `json:"text"`
}

// pieces returns what was taken out of a file, so that restore gives back every byte of it. The error is
// fault.Internal if after is not before without some of its lines.
func pieces(before, after []byte) ([]cutPiece, error) {
	var cut []cutPiece
	offset, adjoins := 0, false
	if bytes.HasPrefix(before, byteOrderMark) && bytes.HasPrefix(after, byteOrderMark) { // it stays, whatever line it is in
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
		return nil, fault.New(fault.Internal, "more than whole lines was taken out of the file")
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
