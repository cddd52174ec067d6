package fault

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Hint is a command that a person can paste into a shell unchanged. Only Hintf and Word put outside text into a
// hint, and they quote it. Code converts a string to a Hint only if another process of Broker made it; a house
// test lists these conversions.
type Hint string

// constant is the type of a format. No other package can name it, so a format is always a constant in the source:
// a call with a string built at run time does not compile.
type constant string

// maxHint and maxWord limit a hint and a word in it, in bytes. A word that was cut matches nothing and ends in
// "…". A hint is never cut, because half a command is a different command.
const (
	maxHint = 4 * maxWord
	maxWord = 512
)

// Hintf makes a hint. Each argument becomes one shell word, and a []string becomes several words. An argument of
// type Hint is inserted unchanged, because it is already quoted. The verbs are %s, and %d for numbers, never
// within quotes.
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
				dashed = dashed || isDashed(s)
			}
			words[i] = strings.Join(all, " ")
		default:
			text := fmt.Sprint(arg)
			words[i] = Word(text)
			dashed = dashed || isDashed(text)
		}
	}
	hint := fmt.Sprintf(string(format), words...)
	if dashed && strings.HasPrefix(hint, "broker ") {
		return namesLast(string(format), words, args)
	}
	return Hint(hint)
}

// isDashed reports whether a command of broker would read a name as an option.
func isDashed(name string) bool { return len(name) > 1 && name[0] == '-' }

// namesLast makes a command of broker with a name that begins with "-". It puts the names after "--", and another
// command or a file after the names. What follows an option in the format is the option's value and stays there, so
// in a format an option without a value must not be right before a name. An argument of type Hint is a part of the
// command, not a name. A command that has "--" already is exec, whose first name cannot begin with "-"; namesLast
// returns "" for it.
func namesLast(format string, words, args []any) Hint {
	var command, names, behind []string
	value := false
	for _, token := range strings.Fields(format) {
		n := strings.Count(token, "%s") + strings.Count(token, "%d")
		text := fmt.Sprintf(token, words[:n]...)
		name := slices.ContainsFunc(args[:n], func(arg any) bool { _, hint := arg.(Hint); return !hint })
		words, args = words[n:], args[n:]
		switch {
		case slices.Contains(strings.Fields(text), "--"):
			return ""
		case len(behind) > 0 || token == "<" || token == "&&":
			behind = append(behind, text)
		case name && !value:
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

// Words splits the command into its words. It is the reverse of Hintf, but on Windows. ok is false if a shell would do
// more than run a program with these words.
func (h Hint) Words() (list []string, ok bool) {
	var word strings.Builder
	quoted, begun, text := false, false, string(h)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\'':
			quoted, begun = !quoted, true
		case quoted:
			word.WriteByte(c)
		case c == '\\' && i+1 < len(text) && (text[i+1] == '\'' || text[i+1] == '\\'):
			i++
			word.WriteByte(text[i])
		case c == ' ':
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_.@+:,/=-", c) >= 0:
			word.WriteByte(c)
			begun = true
		default:
			return nil, false
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list, !quoted && len(list) > 0
}

// Shown returns the hint as one line for a terminal. It returns "" for a hint longer than 2048 bytes.
func (h Hint) Shown() string {
	if s := escape(string(h), maxHint); len(s) <= maxHint {
		return s
	}
	return ""
}

// Word quotes text as one shell word: sh, dash, bash, zsh and fish read it back as the same bytes. On Windows it
// is a word for PowerShell and cmd. Characters that a terminal cannot show are escaped as in Line; such a word
// matches nothing and does no harm.
func Word(s string) Hint {
	s = escape(s, maxWord)
	if runtime.GOOS == "windows" {
		return Hint(windowsWord(s))
	}
	return Hint(posixWord(s))
}

// plain reports whether text needs no quotes: it has only letters, digits and this punctuation.
func plain(s, punctuation string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
			!strings.ContainsRune(punctuation, r)
	})
}

// posixWord quotes text in single quotes, where every character is literal. Two characters stay outside of the
// quotes: the single quote, and a backslash that fish would take for an escape.
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

// windowsWord quotes text in double quotes, which both PowerShell and cmd know. Characters that are special to
// either of them inside these quotes have no form that works in both, and are shown as escapes.
func windowsWord(s string) string {
	punctuation := `_.:/\-`
	if strings.HasPrefix(s, "-") {
		punctuation = "_-" // PowerShell splits -a.b and -a:b
	}
	if plain(s, punctuation) {
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
