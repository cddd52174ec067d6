package fault

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Hint is a command that a person can copy into a shell as it is. Only Hintf and Word put text from
// outside into one, and they quote it. A conversion from a string is for a hint that another process of
// Broker made; a test of the house lists them.
type Hint string

// constant is the type of a format. No other package can name it, so a format is a constant of the
// source: a call with a string that was put together does not compile.
type constant string

// maxHint and maxWord bound a hint and a word in it, in bytes. A word that is cut names nothing, and
// says so by its "…"; a hint is never cut, because half a command is another command.
const (
	maxHint = 4 * maxWord
	maxWord = 512
)

// Hintf makes a hint. Each argument becomes one word of the shell, a []string several; a Hint is
// taken as it is, being quoted already. The verbs are %s, and %d for numbers, never within quotes.
func Hintf(format constant, args ...any) Hint {
	words, dashed := make([]any, len(args)), false
	for i, arg := range args {
		switch arg := arg.(type) {
		case int, Hint:
			words[i] = arg
		case []string:
			var all []string
			for _, s := range arg {
				all = append(all, string(Word(s)))
				dashed = dashed || strings.HasPrefix(s, "-")
			}
			words[i] = strings.Join(all, " ")
		default:
			text := fmt.Sprint(arg)
			words[i] = Word(text)
			dashed = dashed || strings.HasPrefix(text, "-")
		}
	}
	if dashed && strings.HasPrefix(string(format), "broker ") {
		return namesLast(string(format), words)
	}
	return Hint(fmt.Sprintf(string(format), words...))
}

// namesLast makes a command of broker with a name in it that begins with "-". The names stand behind "--" then, and what
// ends in another command or file behind them. What follows an option is its value and stays there, so in a format an
// option without a value does not stand right before a name. A format with "--" of its own stays as it is.
func namesLast(format string, words []any) Hint {
	var command, names, behind []string
	value := false
	for _, token := range strings.Fields(format) {
		n := strings.Count(token, "%s") + strings.Count(token, "%d")
		text := fmt.Sprintf(token, words[:n]...)
		words = words[n:]
		switch {
		case token == "--":
			return "" // exec, whose first name cannot begin so
		case len(behind) > 0 || token == "<" || token == "&&":
			behind = append(behind, text)
		case n > 0 && !value:
			names = append(names, text)
		default:
			command = append(command, text)
		}
		value = strings.HasPrefix(token, "-")
	}
	if len(names) > 0 {
		names = slices.Insert(names, 0, "--")
	}
	return Hint(strings.Join(slices.Concat(command, names, behind), " "))
}

// Shown is the hint as one line for a terminal. It is empty for one of more than 2048 bytes.
func (h Hint) Shown() string {
	if s := escape(string(h), maxHint); len(s) <= maxHint {
		return s
	}
	return ""
}

// Word writes text as one word of a shell: sh, dash, bash, zsh and fish read the same bytes again. On
// Windows it is a word for PowerShell and cmd. What a terminal cannot show is written as an escape, as
// Line does: such a word names nothing, and does nothing.
func Word(s string) Hint {
	s = escape(s, maxWord)
	if runtime.GOOS == "windows" {
		return Hint(windowsWord(s))
	}
	return Hint(posixWord(s))
}

// plain reports whether text needs no quotes. A leading "-" gets them so that it is seen to be a word.
func plain(s, punctuation string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
			!strings.ContainsRune(punctuation, r)
	})
}

// posixWord has what is between single quotes mean itself, but for two characters that stay outside:
// the single quote, and a backslash that fish would take for an escape.
// https://fishshell.com/docs/current/language.html#quotes
func posixWord(s string) string {
	if plain(s, "_.@+:,/-") {
		return s
	}
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'', c == '\\' && (i+1 == len(s) || s[i+1] == '\'' || s[i+1] == '\\'):
			b.WriteString(`'\` + string(c) + `'`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// windowsWord is between double quotes, which PowerShell and cmd both know. What means something there to
// either of them cannot be written for both, and is shown as an escape.
func windowsWord(s string) string {
	if plain(s, `_.:/\-`) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\"$`%!^“”„", r) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return `"` + b.String() + `"`
}
