package profiles

import (
	"bytes"

	"broker/internal/fault"
)

// Piece is some lines that were taken out of a file: the bytes, and the offset in what was left of it.
type Piece struct {
	Offset int    `json:"offset"`
	Text   []byte `json:"text"`
}

// Pieces returns what was taken out of a file, so that Restore gives back every byte of it. The error is
// fault.Internal if after is not before without some of its lines.
func Pieces(before, after []byte) ([]Piece, error) {
	var pieces []Piece
	offset, adjoins := 0, false
	for len(before) > 0 {
		line := firstLine(before)
		before = before[len(line):]
		if bytes.Equal(line, firstLine(after[offset:])) && len(line) > 0 {
			offset, adjoins = offset+len(line), false
			continue
		}
		if adjoins {
			last := &pieces[len(pieces)-1]
			last.Text = append(last.Text, line...)
			continue
		}
		pieces, adjoins = append(pieces, Piece{offset, bytes.Clone(line)}), true
	}
	if offset != len(after) {
		return nil, fault.New(fault.Internal, "more than whole lines was taken out of the file")
	}
	return pieces, nil
}

// Restore puts the pieces back.
func Restore(after []byte, pieces []Piece) []byte {
	var all []byte
	at := 0
	for _, p := range pieces {
		offset := min(max(p.Offset, at), len(after))
		all = append(append(all, after[at:offset]...), p.Text...)
		at = offset
	}
	return append(all, after[at:]...)
}
