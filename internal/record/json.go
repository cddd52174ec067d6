package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrVersion: a text names no version, or another one than the program knows.
var ErrVersion = errors.New("its version is another")

// Decode reads the JSON of one record as DecodeStrict does. The record has to be of this version, which its key version
// says. One that names no version is read into old, unless that is nil: an earlier Broker wrote it.
func Decode(text []byte, version int, into, old any) error {
	var head struct {
		Version int `json:"version"`
	}
	var kind *json.UnmarshalTypeError // a list, or a version that is no number
	if err := json.Unmarshal(text, &head); err != nil && !errors.As(err, &kind) {
		return errNotJSON
	}
	switch {
	case head.Version == 0 && old != nil:
		into = old
	case head.Version != version:
		return fmt.Errorf("%w: it has %d, and this program knows %d", ErrVersion, head.Version, version)
	}
	return DecodeStrict(text, into)
}

// DecodeStrict reads one JSON value: no key that into does not have, and nothing behind the end. Its errors repeat
// nothing of the text.
func DecodeStrict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more in it than Broker writes")
	}
	return nil
}

var errNotJSON = errors.New("it is not the JSON that Broker writes")
