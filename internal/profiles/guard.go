package profiles

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"broker/internal/fault"
)

// Guard says when a person must confirm that a session of a profile is handed out. The zero Guard asks for nothing.
type Guard struct {
	Confirm Confirm
	// Production means that a command that guard_commands names needs a confirmation of its own.
	Production bool
	Agents     Agents
}

// Agents is what the setting agents says about coding agents. The zero Agents gives them what a person gets. For a
// chain, the values of its profiles and its source add up.
type Agents struct {
	ReadOnly bool // their sessions are read-only
	Ask      bool // a person confirms each session, but never at the terminal of the agent
	Deny     bool // they get none
}

// The values of the setting agents.
const (
	agentsReadOnly = "read-only"
	agentsAsk      = "ask"
	agentsDeny     = "deny"
)

// String returns the words of the setting, strictest first; it is empty for the zero Agents.
func (a Agents) String() string {
	var words []string
	if a.Deny {
		words = append(words, agentsDeny)
	}
	if a.Ask {
		words = append(words, agentsAsk)
	}
	if a.ReadOnly {
		words = append(words, agentsReadOnly)
	}
	return strings.Join(words, ", ")
}

// Asks reports whether there are requests for which a person must confirm.
func (g Guard) Asks() bool { return g.Confirm != Never || g.Production || g.Agents.Ask }

// IsZero reports whether the guard asks for nothing.
func (g Guard) IsZero() bool { return g == Guard{} }

// String says when a person is asked. It leaves out what Agents.Ask asks, and is empty if nothing is left.
func (g Guard) String() string {
	text := map[Confirm]string{
		First:  "before the first session in a terminal (a yes may last for " + FormatDuration(ConfirmedFor) + ")",
		Always: "before each session",
	}[g.Confirm]
	switch {
	case !g.Production:
		return text
	case text == "":
		return "for each guarded command"
	}
	return text + ", and for each guarded command"
}

// Confirm is the setting confirm of a profile.
type Confirm int

// The values of Confirm, from the most lenient to the strictest.
const (
	Never  Confirm = iota
	First          // a yes may last for ConfirmedFor in its terminal
	Always         // each session is confirmed
)

// ConfirmedFor is how long a yes lasts at most.
const ConfirmedFor = 15 * time.Minute

var confirmWords = []string{"never", "first", "always"}

// guard reads the guard of one profile or source of a chain. The strictest guard of a chain counts, whatever file it
// is in.
func (r *reading) guard(all view, g *Guard) {
	for _, b := range all {
		r.guardOf(view{b}, g)
	}
}

func (r *reading) guardOf(v view, g *Guard) {
	word := r.take(v, keyConfirm, oneOf(confirmWords...))
	production := strings.EqualFold(r.take(v, keyProduction, checkBool), "true")
	own := Confirm(max(slices.Index(confirmWords, strings.ToLower(word)), 0))
	if word == "" && production {
		own = First
	}
	g.add(Guard{own, production, agentsOf(r.take(v, keyAgents, oneOf(agentsReadOnly, agentsAsk, agentsDeny)))})
}

// agentsOf returns the Agents of one value of the setting.
func agentsOf(word string) Agents {
	word = strings.ToLower(word)
	return Agents{ReadOnly: word == agentsReadOnly, Ask: word == agentsAsk, Deny: word == agentsDeny}
}

// readOnly reads read_only of each file: one file may add it, and another one does not remove it. A server that is
// not AWS's may ignore the session policy.
func (r *reading) readOnly(name string, all view, compatible bool) bool {
	var at Origin
	for _, b := range all {
		if v := (view{b}); strings.EqualFold(r.take(v, keyReadOnly, checkBool), "true") {
			at = v.origin(keyReadOnly)
		}
	}
	if at != (Origin{}) && compatible && r.err == nil {
		r.err = fault.New(fault.Config, "%s: profile %q is read-only, but its source has sts_compatible = true: a "+
			"server that is not AWS's may ignore the session policy; remove read_only, and limit the role itself", at, name).
			WithHint("vi +%d %s", at.Line, at.File)
	}
	return at != (Origin{})
}

func (g *Guard) add(other Guard) {
	g.Confirm = max(g.Confirm, other.Confirm)
	g.Production = g.Production || other.Production
	g.Agents.ReadOnly = g.Agents.ReadOnly || other.Agents.ReadOnly
	g.Agents.Ask = g.Agents.Ask || other.Agents.Ask
	g.Agents.Deny = g.Agents.Deny || other.Agents.Deny
}

// notPublished returns an error for a guarded profile that the registry keeps published: every program could read
// its session, and nobody would be asked.
func notPublished(at Origin, g Guard) error {
	if g.IsZero() {
		return nil
	}
	why := "confirm or production cannot have publish = true, because nobody would be asked"
	if (g == Guard{Agents: g.Agents}) {
		why = "agents cannot have publish = true, because every program could read its session"
	}
	return fault.New(fault.Config, "%s: a profile with %s", at, why).WithHint("vi +%d %s", at.Line, at.File)
}

// GuardedCommands is the default of the setting guard_commands.
const GuardedCommands = "terraform destroy, terraform apply -destroy, tofu destroy, tofu apply -destroy, " +
	"terraform state rm, tofu state rm, terragrunt destroy, terragrunt run-all destroy, terragrunt destroy-all, " +
	"sls remove, serverless remove, serverless.js remove, osls remove, cdk destroy, sam delete, pulumi destroy, " +
	"pulumi down, eksctl delete, kubectl delete, helm uninstall, helm delete, aws delete-*, aws terminate-*, " +
	"aws batch-delete-*, aws s3 rb, aws s3 rm, aws s3 sync --delete, aws deregister-*, aws purge-*"

// GuardCommands returns the setting guard_commands: the commands that need a confirmation of their own for a profile
// with production = true. The error is a fault.Config with file and line.
func (s *Set) GuardCommands() ([]CommandPattern, error) {
	b := s.block(registryFile, SectionSettings, "")
	set := b.find(keyGuardCommands)
	if set == nil {
		return parseCommands(GuardedCommands)
	}
	list, err := parseCommands(set.value)
	if err != nil {
		return nil, fault.New(fault.Config, "%s: %s %w", Origin{b.origin.File, set.line}, keyGuardCommands, err).
			WithHint("broker config set %s VALUE", keyGuardCommands)
	}
	return list, nil
}

// parseCommands reads the setting guard_commands: patterns with commas between. The word "default" stands for
// GuardedCommands.
func parseCommands(s string) ([]CommandPattern, error) {
	var list []CommandPattern
	for text := range strings.SplitSeq(s, ",") {
		c := CommandPattern(strings.Fields(text))
		switch {
		case len(c) == 0:
			return nil, fmt.Errorf("has an empty pattern")
		case len(c) == 1 && c[0] == "default":
			more, err := parseCommands(GuardedCommands)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
			continue
		case len(c) == 1 && len(Nearest(c[0], slices.Values([]string{"default"}), 1)) > 0:
			return nil, fmt.Errorf("has the pattern %.40q; did you mean default?", c[0])
		}
		for _, word := range c {
			if _, err := path.Match(word, ""); err != nil {
				return nil, fmt.Errorf("has the pattern %.40q, which is not valid: %w", c.String(), err)
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// CommandPattern is a pattern for a command line: words in the format of path.Match, where * also matches a slash. The
// first word matches the base name of any word of the command line, because sudo or a shell may stand before the
// program. The others match later words, in this order; words may come between them.
type CommandPattern []string

// String returns the pattern as a user writes it.
func (c CommandPattern) String() string { return strings.Join(c, " ") }

// plain returns a word with the same form for -destroy, --destroy and --destroy=true, and without the slash at which
// the * of path.Match ends.
func plain(s string) string {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		s, _, _ = strings.Cut(rest, "=")
		s = "-" + strings.TrimPrefix(s, "-")
	}
	return strings.ReplaceAll(s, "/", "\x00")
}

// Matches reports whether a command line matches. An argument with blanks counts as several words, because it may be
// the script of a shell.
func (c CommandPattern) Matches(arguments []string) bool {
	next := 0
	for _, argument := range arguments {
		for word := range strings.FieldsSeq(argument) {
			if next == 0 {
				word = word[strings.LastIndexByte(word, '/')+1:]
			}
			if is, err := path.Match(plain(c[next]), plain(word)); err == nil && is {
				if next++; next == len(c) {
					return true
				}
			}
		}
	}
	return false
}
