package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/vault"
	"broker/internal/wire"
)

// endsSoon is how long before its end checkLogins reports a login that AWS does not renew.
const endsSoon = time.Hour

// checkLogins reports logins on a web page that are needed or end soon, logins of `aws sso login` beside Broker's, and
// permission sets that tools without Identity Center cannot use yet. A login that nobody asked for since the daemon
// started is not looked up: only the vault process can.
func (x *examination) checkLogins(context.Context) (found []finding) {
	if x.set == nil {
		return nil
	}
	logins := map[string]wire.Session{}
	for _, s := range x.status.Sessions {
		if s.Login {
			logins[s.Source] = s
		}
	}
	for _, source := range x.set.LoginSources() {
		login := fault.Hintf("broker login %s", source.Name)
		switch s, known := logins[source.Name]; {
		case known && s.Error != "":
			found = append(found, finding{Level: risky, Command: login, Text: "the login to " + source.Name + ": " + s.Error})
		case known && s.Renews == nil && s.Expires != nil && time.Until(*s.Expires) < endsSoon:
			found = append(found, finding{Level: risky, Command: login,
				Text: "the login to " + source.Name + " ends at " + s.Expires.Local().Format(time.DateTime)})
		}
		if path := x.sharedLogin(source); path != "" {
			found = append(found, finding{Level: fine, Text: fmt.Sprintf("aws sso login keeps a login to %s of its own in %s; "+
				"each program that reads it renews it, and aws sso logout ends it", source.Name, path)})
		}
	}
	unlinked, first := 0, ""
	for _, s := range x.set.List() {
		if s.PermissionSet != "" && s.Problem == "" && !s.Linked && s.Helper == "" {
			if unlinked++; first == "" {
				first = s.Name
			}
		}
	}
	if unlinked > 0 {
		found = append(found, finding{Level: fine, Command: fault.Hintf("broker profiles link %s", first),
			Text: plural(unlinked, "profile") + " of IAM Identity Center, such as " + first + ", can be used only by tools " +
				"that know it; a linked one by every tool that reads credential_process"})
	}
	return found
}

// sharedLogin returns the file in which `aws sso login` keeps a login to a portal, or "".
func (x *examination) sharedLogin(source profiles.Source) string {
	if source.Kind != profiles.Portal || source.Name == source.StartURL || x.paths.AWS == "" {
		return ""
	}
	path := filepath.Join(x.paths.AWS, "sso", "cache", vault.PortalFile(source.Name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
