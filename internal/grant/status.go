package grant

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// Commands returns the programs that have their own files or an endpoint, the newest first.
func (k *Keeper) Commands() (list []wire.Command) {
	for _, h := range k.copies() {
		c := wire.Command{Mode: "file", Profiles: h.Profiles, PID: h.Owner.PID, Since: h.Since}
		switch {
		case h.Kind == Section || h.Kind == Door || h.Ended || h.Masks: // a mask belongs to an endpoint
			continue
		case h.Kind == Endpoint:
			c.Mode, c.Profiles = "server", []string{fault.Line(h.Profiles[0])}
			if h.Role != nil && h.Role.ARN != "" {
				c.Profiles = []string{fault.Line(h.Role.ARN)}
			}
		}
		name, _ := h.Owner.Program()
		c.Program = fault.Line(name)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b wire.Command) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.PID, b.PID))
	})
	return list
}

// Published returns the sections of shared credentials files, sorted by profile and file.
func (k *Keeper) Published() (list []wire.Published) {
	for _, h := range k.copies() {
		if h.Kind != Section || h.Off || h.gone || h.Ended {
			continue
		}
		w := wire.Published{Profile: h.Profiles[0], File: h.files(k.Files).Credentials, AccessKeyID: h.key()}
		if w.AccessKeyID != "" {
			w.Expires = &h.Expires
		}
		if !h.Until.IsZero() {
			w.Until = &h.Until
		}
		switch {
		case len(h.LoggedOut) > 0:
			w.Error = "logged out"
		case h.err != nil:
			w.Error = fault.Line(h.err.Error())
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b wire.Published) int {
		return strings.Compare(a.Profile+"\x00"+a.File, b.Profile+"\x00"+b.File)
	})
	return list
}

func (k *Keeper) copies() (list []held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.grants {
		list = append(list, *h)
	}
	return list
}

// maxWarnings limits the warnings about files in one answer.
const maxWarnings = 20

// Lines converts warnings to the lines of an answer.
func Lines(warnings []profiles.Warning) (list []string) {
	for i, w := range warnings {
		if i == maxWarnings {
			return append(list, fmt.Sprintf("and %d more", len(warnings)-i))
		}
		list = append(list, fault.Line(w.String()))
	}
	return list
}
