// Package secret provides a string that cannot be printed. It refuses to be formatted, logged or marshaled; calls
// of Reveal mark every place where a secret leaves the type.
package secret

import (
	"errors"
	"fmt"
	"io"
)

const redacted = "[redacted]"

// String holds a secret. The zero value is the empty secret. It holds a pointer because fmt prints the unexported
// fields of a struct without calling their methods: that way it can print the address, but never the text.
type String struct{ p *string }

// New wraps a secret.
func New(s string) String {
	if s == "" {
		return String{} // saves an allocation: most secrets of a request are empty
	}
	kept := s
	return String{&kept}
}

// Reveal returns the text. Search for its callers to see where secrets go.
func (s String) Reveal() string {
	if s.p == nil {
		return ""
	}
	return *s.p
}

// IsZero reports whether there is no secret.
func (s String) IsZero() bool { return s.p == nil }

// String implements fmt.Stringer.
func (s String) String() string { return redacted }

// Format implements fmt.Formatter: every verb prints the same.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

var errMarshal = errors.New("a secret cannot be marshaled")

// MarshalText always fails. The encoders of JSON, XML and text call it, and so does slog, which prints the error.
func (s String) MarshalText() ([]byte, error) { return nil, errMarshal }

// MarshalJSON always fails.
func (s String) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// UnmarshalText sets the secret.
func (s *String) UnmarshalText(b []byte) error {
	*s = New(string(b))
	return nil
}

// Tail returns the last four characters of an identifier, for display.
func Tail(id string) string {
	if len(id) <= 4 {
		return id
	}
	return "…" + id[len(id)-4:]
}
