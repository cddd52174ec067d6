package daemon

import (
	"cmp"
	"encoding/json"
	"slices"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/wire"
)

// commands are the programs that have files or an endpoint of their own, those that began last first. They take at most so
// many bytes of JSON; left counts the others.
func (d *Daemon) commands(room int) (list []wire.Command, left int) {
	all := append(d.overlays.commands(), d.endpoints.commands()...)
	slices.SortFunc(all, func(a, b wire.Command) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.PID, b.PID))
	})
	for i, c := range all {
		name, _ := peer.Process{PID: c.PID}.Program()
		c.Program = fault.Line(name)
		b, err := json.Marshal(c)
		if room -= len(b); err != nil || room < 0 {
			return list, len(all) - i
		}
		list = append(list, c)
	}
	return list, 0
}

func (o *overlays) commands() []wire.Command {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []wire.Command
	for _, v := range o.live {
		list = append(list, wire.Command{Mode: "file", Profiles: v.owner.Profiles, PID: v.owner.PID, Since: v.owner.Since})
	}
	return list
}

func (e *endpoints) commands() []wire.Command {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []wire.Command
	for _, l := range e.leases {
		whose := l.Profile
		if l.Role != nil && l.Role.ARN != "" {
			whose = l.Role.ARN
		}
		list = append(list, wire.Command{Mode: "server", Profiles: []string{fault.Line(whose)}, PID: l.PID, Since: l.Since})
	}
	return list
}
