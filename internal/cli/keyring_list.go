package cli

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/vault"
	"broker/internal/wire"
)

func (p *program) keyringListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the keyrings and say why one cannot be used",
		UsageText: "broker keyring list",
		Description: "When you store the first key, Broker chooses the first keyring in the list that works, and writes it to\n" +
			"the settings. From then on it uses only that keyring. This command writes nothing and asks for nothing.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.keyringList,
	}
}

// keyringJSON is one keyring in `broker keyring list --json`.
type keyringJSON struct {
	Backend string     `json:"backend"`
	State   string     `json:"state"`   // works, new, locked, unusable
	InUse   bool       `json:"in_use"`  // the settings name this keyring
	Default bool       `json:"default"` // the settings name no keyring, and the first key goes here
	Reason  string     `json:"reason,omitempty"`
	Hint    string     `json:"hint,omitempty"`
	Note    string     `json:"note,omitempty"`
	command fault.Hint // the Hint, to be copied
}

// keyrings tries all keyrings. chosen is the one in the settings, or empty.
func (p *program) keyrings(ctx context.Context, chosen string) []keyringJSON {
	rows := []keyringJSON{}
	known, defaulted := false, false
	for _, t := range p.newCaller(nil).Probe(ctx) {
		row := keyringRow(t)
		row.InUse = t.Backend == chosen
		if row.InUse && row.State == "locked" && t.Backend == vault.File && p.daemonHasKey(ctx) {
			row.State, row.Hint = "works", ""
			row.Reason = "the daemon has its key; a command that changes it asks for the passphrase"
		}
		row.Default = chosen == "" && !defaulted && t.Works() && !t.ByName
		known, defaulted = known || row.InUse, defaulted || row.Default
		rows = append(rows, row)
	}
	if chosen != "" && !known {
		row := keyringRow(vault.Trial{Backend: chosen, Err: vault.CheckBackend(chosen)})
		row.InUse = true
		rows = append(rows, row)
	}
	return rows
}

func (p *program) keyringList(c *cli.Context) error {
	_, settings, err := p.settings()
	if err != nil {
		return err
	}
	rows := p.keyrings(c.Context, settings.KeyringBackend)
	if c.Bool("json") {
		return p.printJSON(rows)
	}
	w := p.table("KEYRING", "STATE", "USE", "REMARK")
	for _, row := range rows {
		use := "-"
		switch {
		case row.InUse:
			use = "in use"
		case row.Default:
			use = "for the first key"
		}
		remark := row.Reason
		if row.Note != "" {
			remark = row.Note
			if row.Reason != "" {
				remark += "; " + row.Reason
			}
		}
		w.row(row.Backend, row.State, use, remark)
	}
	return w.print()
}

// daemonHasKey reports whether a running daemon can read the keyring.
func (p *program) daemonHasKey(ctx context.Context) bool {
	quiet := p.client
	quiet.NoStart = true
	_, err := quiet.Do(ctx, wire.Request{Verb: wire.Unlock, StayLocked: true})
	return err == nil
}

func keyringRow(t vault.Trial) keyringJSON {
	row := keyringJSON{Backend: t.Backend, State: "works", Note: vault.Note(t.Backend)}
	if t.Err == nil {
		return row
	}
	row.State, row.Reason, row.command = "unusable", t.Err.Error(), fault.Of(t.Err).Hint
	row.Hint = row.command.Shown()
	switch {
	case errors.Is(t.Err, vault.ErrNotCreated):
		row.State = "new" // storing the first key creates it
	case t.Works():
		row.State = "locked"
	}
	return row
}
