package grant

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/session"
)

// Ending is a session that ends soon unless a person logs in, and what depends on it.
type Ending struct {
	session.Ending
	Users []string // such as "terraform (pid 4711)"; safe to print
}

// String returns the line for people, with the command that renews the session. It is safe to print.
func (e Ending) String() string {
	text := fmt.Sprintf("the session of %s ends at %s", e.Login, e.Expires.Local().Format("15:04"))
	switch n := len(e.Users); {
	case n == 1:
		text += "; " + e.Users[0] + " uses it"
	case n == 2:
		text += "; " + e.Users[0] + " and " + e.Users[1] + " use it"
	case n > 2:
		text += fmt.Sprintf("; %s and %d others use it", e.Users[0], n-1)
	}
	return fault.Line(text + fmt.Sprintf("; to renew it: %s", fault.Hintf("broker login %s", e.Login)))
}

// maxEnding limits the list that Ending returns.
const maxEnding = 20

// Ending lists the sessions that end soon and that a grant depends on, or that were used in the last hour.
func (k *Keeper) Ending() (list []Ending) {
	all := k.Broker.Ending()
	if len(all) == 0 {
		return nil // nearly always
	}
	grants := k.copies()
	slices.SortFunc(grants, func(a, b held) int { // programs first
		return cmp.Or(cmp.Compare(min(b.Owner.PID, 1), min(a.Owner.PID, 1)), a.Since.Compare(b.Since),
			cmp.Compare(a.ID, b.ID))
	})
	for _, e := range all {
		var users []string
		for i := range grants {
			if h := &grants[i]; k.depends(h, e) && !slices.Contains(users, h.user()) {
				users = append(users, h.user())
			}
		}
		if (e.Used || len(users) > 0) && len(list) < maxEnding {
			list = append(list, Ending{e, users})
		}
	}
	return list
}

// depends reports whether a grant needs a session after its end.
func (k *Keeper) depends(h *held, e session.Ending) bool {
	if !h.open(time.Now()) || h.Masks || !h.Until.IsZero() && h.Until.Before(e.Expires) {
		return false
	}
	return slices.ContainsFunc(k.renewal(&h.Grant).Requests, func(r session.Request) bool {
		key, ok := k.Broker.KeyOfCode(r)
		return ok && key == e.Key
	})
}

// user names what uses a grant.
func (h *held) user() string {
	if h.Kind == Section {
		return "the published profile " + h.Profiles[0]
	}
	if h.Kind == Door && h.Owner.PID == 0 {
		return "the door " + h.Door.Name
	}
	name, _ := h.Owner.Program()
	return fmt.Sprintf("%s (pid %d)", cmp.Or(fault.Line(name), "a program"), h.Owner.PID)
}
