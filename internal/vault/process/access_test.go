package process

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// TestOneRefreshForAllProcesses: fifty vault processes find an expired token. One of them refreshes it, and all return
// the new one.
func TestOneRefreshForAllProcesses(t *testing.T) {
	t.Parallel()
	const processes = 50
	c := fileCaller(t)
	must(t, os.WriteFile(callsFile(c.StateDir), nil, 0o600))
	must(t, os.WriteFile(refreshFile(c.StateDir), []byte("REFRESHTOKEN"), 0o600))
	source := profiles.Source{Name: "my-sso", Kind: profiles.Portal, StartURL: testStart,
		Scopes: []string{profiles.AccountScope}, Endpoint: profiles.Endpoint{Region: "eu-west-1"}}
	ended := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	l := login{Name: source.Name, Kind: source.Kind, StartURL: testStart, Region: "eu-west-1",
		Client:  exchange.Registration{ID: "client", Secret: secret.New("CLIENTSECRET"), Expires: time.Now().Add(time.Hour)},
		Refresh: secret.New("REFRESHTOKEN"), Access: portalAccess(secret.New("ended"), ended.Add(-time.Hour), ended),
		belongs: (&errand{request: &request{Registry: c.Registry}}).ours()}
	data, err := encodeLogin(l)
	must(t, err)
	r, err := openFile(c.Dir, c.Key())
	must(t, err)
	must(t, r.set(t.Context(), loginKey(l.Name), loginLabel(l.Name), data))

	q, err := json.Marshal(&request{Op: vault.OpOpen, Backend: vault.File, Dir: c.Dir, StateDir: c.StateDir,
		Registry: c.Registry, TimeoutMS: patience.Milliseconds(), Passphrase: c.Key().Reveal(), Source: source.Name,
		Call: &session.Call{Operation: session.CreateToken, Endpoint: source.Endpoint},
		Page: &vault.Page{Kind: source.Kind, StartURL: source.StartURL, Scopes: source.Scopes}})
	must(t, err)
	q = append(q, '\n')
	exe := vaultExe(t)
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), exe, "vault")
			cmd.Env = vault.Environment(os.Environ(), []string{vault.File})
			cmd.Stdin = bytes.NewReader(q)
			out, err := cmd.Output()
			var a answer
			if err != nil || json.Unmarshal(out, &a) != nil || a.Credentials == nil ||
				a.Credentials.SessionToken != "ACCESSTOKEN-REFRESHTOKEN-next" {
				t.Errorf("%v, %s", err, out)
			}
			if bytes.Contains(bytes.ReplaceAll(out, []byte("ACCESSTOKEN-REFRESHTOKEN"), nil), []byte("REFRESHTOKEN")) ||
				bytes.Contains(out, []byte("CLIENTSECRET")) {
				t.Errorf("the answer has a secret: %s", out)
			}
		})
	}
	all.Wait()
	calls, err := os.ReadFile(callsFile(c.StateDir))
	must(t, err)
	if n := bytes.Count(calls, []byte("\n")); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	// The Caller gives what the processes gave.
	creds, err := c.Open(t.Context(), source, session.Call{Operation: session.CreateToken, Endpoint: source.Endpoint},
		secret.String{})
	if err != nil || creds.SessionToken.Reveal() != "ACCESSTOKEN-REFRESHTOKEN-next" {
		t.Errorf("Open: %+v, %v", creds, err)
	}
}
