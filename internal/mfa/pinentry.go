package mfa

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"broker/internal/child"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

const (
	// handshake is how long pinentry may take to show the prompt; with a broken session bus it hangs there.
	handshake = 5 * time.Second
	// maxAssuan is the longest line of the Assuan protocol in bytes, without its line end.
	maxAssuan = 1000
	maxTalk   = 64 << 10
	// glance is how often we check that the terminal still exists.
	glance = 250 * time.Millisecond

	defaultTerm   = "vt100" // supported by every terminal
	defaultLocale = "C.UTF-8"
)

// The relevant codes of libgpg-error, in the low 16 bits of pinentry's answer.
const (
	gpgTimeout        = 62
	gpgCanceled       = 99
	gpgFullyCancelled = 198
)

// pinentryError is an ERR answer. Only its number is kept.
type pinentryError int

func (e pinentryError) Error() string { return fmt.Sprintf("answered with error %d", int(e)) }

var (
	errWantsTerminal = errors.New("needs a terminal, and there is none")
	errTerminalGone  = errors.New("lost its terminal")
	errNotAssuan     = errors.New("does not speak the Assuan protocol")
)

// askPinentry prompts with pinentry, by the protocol of https://www.gnupg.org/documentation/manuals/assuan/ and
// pinentry's manual. It uses an entry field for a confirmation too: no command selects the default button of
// CONFIRM, and Enter means yes in most flavors.
func askPinentry(ctx context.Context, d desktop, g dialog) (string, error) {
	if d.tty == "" && !d.display() {
		return "", errors.New("has neither display nor terminal")
	}
	program, err := findPinentry(ctx, d)
	if err != nil {
		return "", err
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if t := openTerminal(d.tty); d.tty != "" && t != nil {
		defer t.close()
		defer func() {
			if outer.Err() != nil {
				t.restore() // pinentry was killed and could not restore it
			}
		}()
		defer watch(t, func() { cancel(errTerminalGone) })()
	}
	var answer string
	err = child.Command{
		Program: program, Env: d.env,
		Timeout: 2 * dialogTimeout, // ctx ends earlier
		Limit:   maxTalk,
	}.Converse(ctx, func(lines *child.Lines) (err error) {
		answer, err = talk(lines, pinentryCommands(d, g.typed(), secondsLeft(ctx)), d.tty != "")
		return err
	})
	var refused pinentryError
	var exit *child.ExitError
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, errTerminalGone):
		return "", ErrCancelled
	case errors.As(err, &refused):
		switch int(refused) & 0xffff {
		case gpgCanceled, gpgFullyCancelled:
			return "", ErrCancelled
		case gpgTimeout:
			return "", context.DeadlineExceeded
		}
	case errors.As(err, &exit) && (exit.Signal == syscall.SIGINT || exit.Signal == syscall.SIGHUP):
		return "", ErrCancelled // Ctrl-C on the terminal, or the terminal was closed
	}
	return "", err
}

// watch calls gone when the terminal is closed, until stop is called. pinentry-curses 1.2.1 does not notice, and
// uses all of a CPU.
func watch(t *terminal, gone func()) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(glance)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if t.gone() {
					gone()
					return
				}
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

// findPinentry searches the PATH, then asks GnuPG which pinentry it uses.
func findPinentry(ctx context.Context, d desktop) (string, error) {
	path, err := child.Find("pinentry")
	if err == nil {
		return path, nil
	}
	if !errors.Is(err, child.ErrNotFound) {
		return "", err
	}
	out, err := child.Command{
		Program: "gpgconf", Args: []string{"--list-components"}, Env: d.env, Timeout: lookUpTimeout,
	}.Run(ctx)
	if err != nil {
		return "", errNotInstalled
	}
	for line := range strings.Lines(string(out)) {
		// name:description:path, each percent-escaped
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 || fields[0] != "pinentry" {
			continue
		}
		if path, err := child.Find(unescape(fields[2])); err == nil {
			return path, nil
		}
	}
	return "", errNotInstalled
}

// command is a line for pinentry. If needed is false, an older pinentry may refuse it.
type command struct {
	line   string
	needed bool
}

var localeName = lazyregexp.New(`^[A-Za-z0-9_.@-]{1,64}$`)

func pinentryCommands(d desktop, g dialog, seconds int) []command {
	var c []command
	if d.tty != "" {
		term := d.value("TERM")
		if !localeName.MatchString(term) || term == "dumb" {
			term = defaultTerm
		}
		locale := defaultLocale
		for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
			if v := d.value(name); localeName.MatchString(v) {
				locale = v
				break
			}
		}
		c = append(c, command{"OPTION ttyname=" + d.tty, true}, command{"OPTION ttytype=" + term, false}, command{"OPTION lc-ctype=" + locale, false})
	}
	c = append(c,
		command{escape("SETTITLE ", g.title), false},
		command{escape("SETDESC ", g.heading+"\n"+g.text), true},
		command{escape("SETPROMPT ", g.label), false},
		command{"SETTIMEOUT " + strconv.Itoa(seconds), false},
	)
	if g.reason != "" {
		c = append(c, command{escape("SETERROR ", fault.Line(g.reason)), false})
	}
	return c
}

// talk runs one conversation with pinentry.
func talk(lines *child.Lines, commands []command, terminal bool) (string, error) {
	ready := lines.Within(handshake)
	if _, err := reply(lines); err != nil {
		return "", err
	}
	// Without a terminal, some of them report that the person canceled, although nobody was asked.
	flavor, err := request(lines, "GETINFO flavor")
	if err == nil && !terminal && (flavor == "tty" || strings.HasSuffix(flavor, "curses")) {
		return "", errWantsTerminal
	}
	var refused pinentryError
	if err != nil && !errors.As(err, &refused) {
		return "", err
	}
	for _, c := range commands {
		if _, err := request(lines, c.line); err != nil && (c.needed || !errors.As(err, &refused)) {
			if errors.As(err, &refused) {
				return "", fmt.Errorf("does not accept %s", strings.Fields(c.line)[0])
			}
			return "", err
		}
	}
	ready()
	return request(lines, "GETPIN")
}

func request(lines *child.Lines, line string) (string, error) {
	if err := lines.Write(line); err != nil {
		return "", err
	}
	return reply(lines)
}

// reply reads up to OK or ERR, and returns the data before it.
func reply(lines *child.Lines) (string, error) {
	var data strings.Builder
	for {
		line, err := lines.Read()
		if err != nil {
			return "", err
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "OK":
			return data.String(), nil
		case "ERR":
			number, _, _ := strings.Cut(rest, " ")
			code, err := strconv.Atoi(number)
			if err != nil {
				return "", errNotAssuan
			}
			return "", pinentryError(code)
		case "D":
			data.WriteString(unescape(rest))
		case "INQUIRE": // it asks for something that we did not offer
			if err := lines.Write("CAN"); err != nil {
				return "", err
			}
		default:
			if word != "S" && !strings.HasPrefix(line, "#") {
				return "", errNotAssuan
			}
		}
	}
}

// escape makes a line from a command and its percent-encoded text, and cuts it at the limit of the protocol.
func escape(command, text string) string {
	var b strings.Builder
	b.WriteString(command)
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		part := text[i : i+n]
		if r < ' ' || r == '%' || r == 0x7f || r == '\\' || r == utf8.RuneError {
			part = ""
			for _, c := range []byte(text[i : i+n]) {
				part += fmt.Sprintf("%%%02X", c)
			}
		}
		if b.Len()+len(part) > maxAssuan {
			break
		}
		b.WriteString(part)
		i += n
	}
	return b.String()
}

// unescape decodes percent-encoding and leaves everything else unchanged.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
