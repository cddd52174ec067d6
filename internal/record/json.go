package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrVersion means that a text has no version, or one that this program does not know.
var ErrVersion = errors.New("unknown version")

// Decode decodes the JSON of one record like DecodeStrict. The record must have this version in its key "version".
// A record without a version was written by an earlier Broker; it is decoded into old, unless old is nil.
func Decode(text []byte, version int, into, old any) error {
	var head struct {
		Version int `json:"version"`
	}
	var kind *json.UnmarshalTypeError // a list, or a version that is not a number
	if err := json.Unmarshal(text, &head); err != nil && !errors.As(err, &kind) {
		return errNotJSON
	}
	switch {
	case head.Version == 0 && old != nil:
		into = old
	case head.Version != version:
		return fmt.Errorf("%w %d; this program knows version %d", ErrVersion, head.Version, version)
	}
	return DecodeStrict(text, into)
}

// DecodeStrict decodes one JSON value. It allows neither keys that into does not have, nor text after the value.
// Its errors repeat nothing of the text.
func DecodeStrict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it has text after the JSON that Broker writes")
	}
	return nil
}

var errNotJSON = errors.New("it is not the JSON that Broker writes")
