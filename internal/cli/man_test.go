package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
)

// TestManPageHasEveryCommand checks that broker(1) has each command with its options and examples, and that two
// pages of one version are the same.
func TestManPageHasEveryCommand(t *testing.T) {
	page := ManPage("2026-11-28", "1.2.3")
	if !bytes.Equal(page, ManPage("2026-11-28", "1.2.3")) {
		t.Error("two pages of one version differ")
	}
	if want := `.TH BROKER 1 "2026-11-28" "Broker 1.2.3" "Broker"` + "\n"; !strings.HasPrefix(string(page), want) {
		t.Errorf("it does not begin with %s", want)
	}
	sections := map[string]string{}
	for _, part := range strings.Split(string(page), "\n.S")[1:] { // .SS and .SH
		head, text, _ := strings.Cut(part, "\n")
		sections[strings.TrimLeft(head, "SH ")] = text
	}
	everyCommand(t, func(path []string, c *cli.Command) {
		if c == nil {
			return
		}
		name := "broker " + strings.Join(path, " ")
		usage := name + " [OPTIONS]"
		switch {
		case len(c.Subcommands) > 0 && takesNames(c): // its own line; each subcommand has another
		case len(c.Subcommands) > 0 && acts(c):
			usage = name + " [COMMAND] [OPTIONS]"
		case len(c.Subcommands) > 0:
			usage = name + " COMMAND"
		}
		text, found := sections[literal(strings.TrimSpace(usage+" "+c.ArgsUsage))]
		if !found {
			t.Errorf("%s is missing", name)
			return
		}
		for _, f := range c.VisibleFlags() {
			want := ".TP\n\\fB" + literal(flagLabel(f)) + "\\fR\n" + prose(flagUsage(f)) + "\n"
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing", name, want)
			}
		}
		for example := range strings.Lines(c.UsageText) {
			want := "\n" + literal(strings.TrimSpace(example)) + "\n"
			if len(c.Subcommands) == 0 && !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing", name, want)
			}
		}
	})
}

// TestManPageIsEscaped checks that no text of a command is an instruction to roff.
func TestManPageIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		".so /etc/passwd":          `\&.so /etc/passwd`,
		"'request":                 `\(aqrequest`,
		`a\fBb`:                    `a\efBb`,
		"use `broker exec -- ls`.": `use \fBbroker exec \-\- ls\fR.`,
		"~/x ^ \"q\"":              `\(ti/x \(ha \(dqq\(dq`,
	} {
		if got := prose(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got := literal("a `b`"); got != `a \(gab\(ga` {
		t.Errorf("got %s", got)
	}
}

// TestManPageHasEveryExitCode checks that the page has each exit code and what it means.
func TestManPageHasEveryExitCode(t *testing.T) {
	page := string(ManPage("2026-01-31", "1.0.0"))
	for _, e := range fault.ExitCodes {
		if want := fmt.Sprintf("\n.TP\n%d\n%s\n", e.Code, prose(e.Meaning)); !strings.Contains(page, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
}
