package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
)

// ManPage returns the manual page broker(1), with every command and option, in the macros of man(7). date is the
// date of the version, such as "2026-11-28". The same date and version give the same bytes.
func ManPage(date, version string) []byte {
	app := newProgram(strings.NewReader(""), io.Discard, io.Discard).app()
	var m manual
	m.line(".TH BROKER 1 %q %q %q", date, "Broker "+version, "Broker")
	m.line(".SH NAME")
	m.line("broker \\- %s", prose(app.Usage))
	m.line(".SH SYNOPSIS")
	m.line(".B broker")
	m.line("COMMAND [OPTIONS] [ARGUMENTS]")
	m.line(".SH DESCRIPTION")
	m.line("%s", prose("Broker keeps long-lived AWS keys with their MFA devices in the keyring of the operating system. "+
		"A daemon, brokerd(8), hands out temporary sessions of roles. AWS tools get them through credproc(1), or from "+
		"commands such as `broker exec`. `broker setup` asks for what is needed and begins."))
	m.line(".SH OPTIONS")
	m.option("--version, -v", "print the version")
	m.option("--help, -h", "show the help of a command")
	category := ""
	for _, c := range app.Commands {
		if c.Category != category {
			category = c.Category
			m.line(".SH %q", "COMMANDS: "+strings.ToUpper(category))
		}
		m.command("broker", c)
	}
	m.line(".SH EXIT STATUS")
	for _, e := range fault.ExitCodes {
		m.line(".TP")
		m.line("%d", e.Code)
		m.line("%s", prose(e.Meaning))
	}
	m.line(".PP")
	m.line("%s", prose("`broker exec` returns the exit code of the command that it runs."))
	m.line(".SH FILES")
	m.option("~/.config/broker/config", "the registry: sources, profiles and settings")
	m.option("~/.aws/config", "the profiles of AWS tools; `broker profiles link` changes the ones that you name")
	m.option("~/.local/state/broker", "the audit log, the log of the daemon, and state")
	m.line(".SH SEE ALSO")
	m.line(".BR credproc (1),")
	m.line(".BR brokerd (8),")
	m.line(".BR aws (1)")
	return []byte(m.String())
}

// manual builds a manual page.
type manual struct{ strings.Builder }

func (m *manual) line(format string, args ...any) { _, _ = fmt.Fprintf(m, format+"\n", args...) }

func (m *manual) option(label, usage string) {
	m.line(".TP")
	m.line("\\fB%s\\fR", literal(label))
	m.line("%s", prose(usage))
}

// command writes what `broker COMMAND --help` shows, for a command and its subcommands.
func (m *manual) command(path string, c *cli.Command) {
	path += " " + c.Name
	usage := path
	switch {
	case len(c.Subcommands) == 0:
		usage += " [OPTIONS]"
	case acts(c) && !takesNames(c):
		usage += " [COMMAND] [OPTIONS]"
	case acts(c):
		usage += " [OPTIONS]"
	default:
		usage += " COMMAND"
	}
	m.line(".SS %s", literal(strings.TrimSpace(usage+" "+c.ArgsUsage)))
	m.line("%s", prose(strings.ToUpper(c.Usage[:1])+c.Usage[1:]+"."))
	if names := c.Names()[1:]; len(names) > 0 {
		m.line("%s", prose("Other names: "+strings.Join(names, ", ")+"."))
	}
	if c.Description != "" {
		m.line(".PP")
		m.line("%s", prose(strings.Join(strings.Fields(c.Description), " ")))
	}
	for _, f := range c.VisibleFlags() {
		m.option(flagLabel(f), flagUsage(f))
	}
	if len(c.Subcommands) == 0 || acts(c) {
		m.line(".PP")
		m.line("Examples:")
		m.line(".PP")
		m.line(".RS 4")
		m.line(".EX")
		for example := range strings.Lines(c.UsageText) {
			m.line("%s", literal(strings.TrimSpace(example)))
		}
		m.line(".EE")
		m.line(".RE")
	}
	for _, sub := range c.Subcommands {
		m.command(path, sub)
	}
}

// signs replaces the characters that roff would interpret or print as others, see groff_char(7). A minus stays a
// minus and does not become a hyphen, so that commands can be copied from the page.
func signs(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(s)
}

// literal escapes text that a person types.
func literal(s string) string { return guarded(signs(s)) }

// prose escapes a sentence. Text between backquotes becomes bold.
func prose(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		if part = signs(part); i%2 == 1 {
			part = `\fB` + part + `\fR`
		}
		b.WriteString(part)
	}
	return guarded(b.String())
}

// guarded escapes a leading full stop, which would start a roff request.
func guarded(s string) string {
	if strings.HasPrefix(s, ".") {
		return `\&` + s
	}
	return s
}
