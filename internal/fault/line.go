package fault

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine limits a message, in bytes: a hostile name or answer must not fill a screen.
const maxLine = 600

// Line makes one printable line of any text. Line ends and tabs become spaces; every other character that
// Printable rejects becomes a Go escape. The result has at most 600 bytes plus "…". Line is idempotent. Texts from
// files, from AWS and from peers pass through it before they reach a terminal or a log.
func Line(s string) string { return Short(s, maxLine) }

// Short is Line with another limit: the result has at most most bytes plus "…".
func Short(s string, most int) string {
	if len(s) <= most && ascii(s) { // nearly all texts are, and each answer has many
		return s
	}
	return escape(strings.NewReplacer("\n", " ", "\t", " ").Replace(s), most)
}

// ascii reports whether a text is all printable ASCII.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// escape replaces characters that are not printable by escapes, and cuts the result at most bytes.
func escape(s string, most int) string {
	var b strings.Builder
	for i, r := range s {
		shown := shown(s[i:], r)
		if b.Len()+len(shown) > most {
			return b.String() + "…"
		}
		b.WriteString(shown)
	}
	return b.String()
}

// shown returns the first character of s, or its escape. r is the rune that range yields for it.
func shown(s string, r rune) string {
	switch _, n := utf8.DecodeRuneInString(s); {
	case r == utf8.RuneError && n == 1:
		return fmt.Sprintf(`\x%02x`, s[0])
	case Printable(r):
		return s[:n]
	default:
		q := strconv.QuoteRuneToASCII(r)
		return q[1 : len(q)-1]
	}
}

// Printable reports whether a terminal shows a character in its place and in the order of the text. Not printable
// are controls, line ends, bidi marks and other format characters, invisible characters (variation selectors,
// fillers, the Braille blank), and all spaces except U+0020.
func Printable(r rune) bool {
	return r >= ' ' && r < 0x7f || unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// Writer returns a writer for a terminal or a line-based log. It makes all text printable except for line ends and
// tabs. Each call of Write must pass whole characters. Long lines are not cut.
func Writer(w io.Writer) io.Writer { return printer{w} }

type printer struct{ io.Writer }

// Write implements io.Writer.
func (p printer) Write(text []byte) (int, error) {
	s := string(text)
	var b strings.Builder
	for i, r := range s {
		if r == '\n' || r == '\t' {
			b.WriteRune(r)
			continue
		}
		b.WriteString(shown(s[i:], r))
	}
	if _, err := io.WriteString(p.Writer, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// JSON escapes the characters of a JSON document that are not printable, except for line ends between values. The
// document keeps its values.
func JSON(document []byte) []byte {
	var b strings.Builder
	for _, r := range string(document) {
		switch {
		case r == '\n' || r != utf8.RuneError && Printable(r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			b.WriteString(`\ufffd`)
		case r > 0xffff:
			r -= 0x10000
			_, _ = fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return []byte(b.String())
}
