package fault

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a message: a hostile name or answer must not fill a screen.
const maxLine = 600

// Line makes one printable line of any text: line ends and tabs are shown as spaces, everything else that
// Printable refuses as an escape of Go. It is at most 600 bytes and "…". The line of a line is itself.
// Texts from files, from AWS and from peers pass here before a terminal or a log sees them.
func Line(s string) string {
	if len(s) <= maxLine && ascii(s) { // as nearly all are, many for each answer
		return s
	}
	return escape(strings.NewReplacer("\n", " ", "\t", " ").Replace(s), maxLine)
}

// ascii reports whether a text is of printable ASCII characters alone.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// escape shows what is not printable as an escape, and cuts what is longer than a number of bytes.
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

// shown is the character at the beginning of a text, or its escape: r is what range says of it.
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

// Printable reports whether a terminal shows a character, in its place and in the order of the text:
// controls, line ends, bidi marks and other format characters are not printable, nor is what looks like
// nothing (variation selectors, fillers, the blank of Braille), nor any space but the common one.
func Printable(r rune) bool {
	return r >= ' ' && r < 0x7f || unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// Writer returns a writer for a terminal or a log of lines: what passes is printable afterwards, but for line
// ends and tabs. Each call of Write has whole characters. What is longer than a line of Line is not cut.
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

// JSON returns a JSON document in which what is not printable, but for line ends between values, is an escape of
// JSON. It holds the same values.
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
