package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "print the credentials of a profile for eval and scripts",
		UsageText: "eval \"$(broker export prod)\"\n" +
			"broker export prod --format json\n" +
			"eval \"$(broker export --unset)\"",
		ArgsUsage: "PROFILE",
		Description: "Prints the variables that `broker exec` sets, quoted for a shell, and unsets the variables that\n" +
			"would override them. Use it with eval, as in the examples.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "format", Value: "env", Usage: "print as `FORM`: " + strings.Join(exportFormats, ", ")},
			&cli.BoolFlag{Name: "unset", Usage: "print commands that remove the variables again"},
		}, adHocFlags()...),
		BashComplete: p.completeProfiles,
		Action:       p.export,
	}
}

// exportFormats are the formats of `broker export`; env works in every POSIX shell.
var exportFormats = []string{"env", "fish", "powershell", "dotenv", "json", "ini"}

func (p *program) export(c *cli.Context) error {
	format := c.String("format")
	shell, isShell := shells[format]
	switch {
	case !slices.Contains(exportFormats, format):
		return fault.New(fault.Usage, "there is no format %q", format).WithHint("broker export --help")
	case c.Bool("unset") && !isShell:
		return fault.New(fault.Usage, "--unset works with the formats env, fish and powershell only").WithHint("broker export --unset")
	case c.Bool("unset") && c.Args().Present():
		return fault.New(fault.Usage, "--unset removes whatever was exported, and takes no profile").
			WithHint("broker export --unset")
	case c.Bool("unset"):
		_, err := fmt.Fprint(p.stdout, shell.unset(slices.Concat(credentialNames(), regionNames)))
		return err
	}
	w, err := p.wantedArgument(c)
	if err != nil {
		return err
	}
	noProfile := fault.New(fault.Usage, "export needs one profile").WithHint("broker export PROFILE")
	if w.none() {
		return noProfile
	}
	name, err := p.exactName(c.Context, w, noProfile)
	if err != nil {
		return err
	}
	cred, err := p.roleCredential(c.Context, name, w.role, 0)
	if err != nil {
		return err
	}
	text, err := exportText(format, cred)
	if err != nil {
		return err
	}
	if isTerminal(p.stdout) {
		p.warn([]string{"these are secrets, and your terminal keeps what it shows"})
	}
	_, err = p.stdout.Write(text) // in one write
	return err
}

// exportText returns a credential in one of the formats.
func exportText(format string, cred wire.Credential) ([]byte, error) {
	set := credentialEnv(cred)
	for _, v := range set {
		// No profile, region or token contains these bytes, and no format can hold them.
		if strings.ContainsAny(v.value, "\x00\r\n") {
			return nil, fault.New(fault.Failed, "the value of %s has a line break or a NUL byte, and was not printed", v.name)
		}
	}
	if shell, ok := shells[format]; ok {
		var b bytes.Buffer
		b.WriteString(shell.unset(slices.DeleteFunc(credentialNames(), func(name string) bool {
			return slices.ContainsFunc(set, func(v variable) bool { return v.name == name })
		})))
		for _, v := range set {
			b.WriteString(shell.set(v))
		}
		return b.Bytes(), nil
	}
	switch format {
	case "json":
		return client.Document(&cred)
	case "ini":
		return iniSection(cred)
	}
	return dotenv(set)
}

// shell knows how one family of shells sets and removes environment variables.
type shell struct {
	set   func(variable) string
	unset func(names []string) string
}

var shells = map[string]shell{
	"env": {
		set:   func(v variable) string { return "export " + v.name + "=" + quotePOSIX(v.value) + "\n" },
		unset: func(names []string) string { return "unset " + strings.Join(names, " ") + "\n" },
	},
	"fish": {
		set:   func(v variable) string { return "set -gx " + v.name + " " + quoteFish(v.value) + "\n" },
		unset: func(names []string) string { return "set -e " + strings.Join(names, " ") + "; or true\n" },
	},
	"powershell": {
		set:   func(v variable) string { return "$env:" + v.name + " = " + quotePowerShell(v.value) + "\n" },
		unset: func(names []string) string { return "$env:" + strings.Join(names, " = $null\n$env:") + " = $null\n" },
	},
}

// quotePOSIX quotes a word. Within single quotes only a single quote is special.
// https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02
func quotePOSIX(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quoteFish quotes a word. Within single quotes fish knows \' and \\.
// https://fishshell.com/docs/current/language.html#quotes
func quoteFish(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

// quotePowerShell quotes a word. PowerShell treats the four typographic single quotes like the plain one, and reads
// a doubled quote as one quote:
// https://learn.microsoft.com/en-us/powershell/scripting/lang-spec/chapter-02 (2.3.5.2, single-quote-character)
func quotePowerShell(s string) string {
	doubled := strings.NewReplacer("'", "''", "\u2018", "\u2018\u2018", "\u2019", "\u2019\u2019",
		"\u201a", "\u201a\u201a", "\u201b", "\u201b\u201b")
	return "'" + doubled.Replace(s) + "'"
}

// dotenv returns the .env file that many tools read. The tools agree on bare words, and on single quotes with no
// special character between them. They have no common way to write a quote or a backslash.
func dotenv(set []variable) ([]byte, error) {
	var b bytes.Buffer
	for _, v := range set {
		value := v.value
		if strings.ContainsAny(value, `'\`) {
			return nil, fault.New(fault.Failed, "the value of %s has a quote or a backslash, which .env files have no common way to write", v.name).
				WithHint("broker export %s --format env", set[0].value)
		}
		if strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:+=") != "" {
			value = "'" + value + "'"
		}
		b.WriteString(v.name + "=" + value + "\n")
	}
	return b.Bytes(), nil
}

// iniSection returns a section of the shared credentials file.
func iniSection(cred wire.Credential) ([]byte, error) {
	keys := []profiles.KeyValue{
		{Key: "aws_access_key_id", Value: cred.AccessKeyID},
		{Key: "aws_secret_access_key", Value: cred.SecretAccessKey.Reveal()},
		{Key: "aws_session_token", Value: cred.SessionToken.Reveal()},
	}
	if cred.Region != "" {
		keys = append(keys, profiles.KeyValue{Key: "region", Value: cred.Region})
	}
	return profiles.SetSection(nil, profiles.SectionCredentials, cred.Profile, keys)
}
