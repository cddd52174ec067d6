package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// portalConfig has profiles of IAM Identity Center, all of one portal: two permission sets in four accounts.
var portalConfig = func() string {
	text := "[sso-session my-sso]\nsso_start_url = https://demo.awsapps.com/start\nsso_region = eu-west-1\n" +
		"sso_registration_scopes = sso:account:access\n"
	for i, name := range portalProfiles {
		text += fmt.Sprintf("[profile %s]\nsso_session = my-sso\nsso_account_id = %s\nsso_role_name = %s\nregion = eu-west-1\n",
			name, portalAccounts[i/2], []string{"Admin", "ReadOnly"}[i%2])
	}
	return text
}()

var (
	portalAccounts = []string{"222233334444", "333344445555", "444455556666", "555566667777"}
	portalProfiles = []string{"dev-admin", "dev-read", "stage-admin", "stage-read", "prod-admin", "prod-read", "mgmt-admin",
		"mgmt-read"}
)

// portal returns a house of a person who has no IAM user. Its display has browsers that only record that they were
// opened, so noPage can tell.
func portal(t testing.TB, simArgs ...string) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim(simArgs...))
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), portalConfig))
	browser := fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >>%s\n", h.opened())
	for _, name := range []string{"xdg-open", "browser"} {
		must(t, os.WriteFile(filepath.Join(h.bin, name), browser, 0o755))
	}
	h.env = append(h.env, "DISPLAY=:4711", "BROWSER="+filepath.Join(h.bin, "browser"))
	return h
}

// opened is the file in which the browsers of portal record their addresses.
func (h *house) opened() string { return filepath.Join(h.dir, "opened") }

func (h *house) noPage(t testing.TB) {
	t.Helper()
	if text, err := os.ReadFile(h.opened()); err == nil {
		t.Errorf("a browser was opened: %s", text)
	}
}

// portalState is the part of the simulator's answer about Identity Center that the tests need.
type portalState struct {
	Devices []struct {
		UserCode string `json:"user_code"`
	} `json:"devices"`
	Sessions []struct {
		AccessTokens int `json:"access_tokens"`
	} `json:"sessions"`
}

func (h *house) portalState(t testing.TB) (state portalState) {
	t.Helper()
	must(t, h.sim.call(http.MethodGet, "sso", "", &state))
	return state
}

// confirms waits for a device, and confirms its code as the person at the page does.
func (h *house) confirms(t testing.TB) (userCode string) {
	t.Helper()
	until(t, "a device waits for a person", func() bool { return len(h.portalState(t).Devices) > 0 })
	userCode = h.portalState(t).Devices[0].UserCode
	must(t, h.sim.post("sso/approve", fmt.Sprintf(`{"user_code":%q}`, userCode)))
	return userCode
}

// logsIn logs a person in to a portal, with a code that the person confirms.
func (h *house) logsIn(t testing.TB, name string) {
	t.Helper()
	ended := make(chan result, 1)
	go func() { ended <- finish(h.command("broker", "login", name, "--device")) }()
	h.confirms(t)
	if r := <-ended; r.code != 0 || !strings.Contains(r.stdout, name+": logged in") {
		t.Fatalf("log in to %s: %v", name, r)
	}
}

// TestPortalCrowdLong starts 50 processes of eight profiles at four daemons when the access token of their login no
// longer works, because it has expired or because AWS ended it. They need one refresh. Once AWS refuses the refresh
// token, too, all are told the same, nobody asks AWS again, and no page opens.
func TestPortalCrowdLong(t *testing.T) {
	for name, over := range map[string]func(*testing.T, *house){
		"expired": func(t *testing.T, h *house) {
			must(t, h.sim.post("lives", `{"access_token_seconds":2}`))
			h.logsIn(t, "my-sso")
			must(t, h.sim.post("lives", `{}`))
			h.ok(t, "broker", "daemon", "--stop") // it would refresh the token
			until(t, "the access token expires", func() bool { return h.portalState(t).Sessions[0].AccessTokens == 0 })
		},
		"refused": func(t *testing.T, h *house) {
			h.logsIn(t, "my-sso")
			must(t, h.sim.post("sso/tokens/expire", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := portal(t)
			const n, daemons = 50, 4
			runtimes := make([]string, daemons)
			for i := range runtimes {
				runtimes[i] = filepath.Join(h.dir, fmt.Sprint("run", i))
			}
			crowd := func() []result {
				return together(t, h, n, func(i int) []string {
					return []string{"env", "BROKER_RUNTIME_DIR=" + runtimes[i%daemons], filepath.Join(h.bin, "credproc"),
						portalProfiles[i%len(portalProfiles)]}
				})
			}
			t.Cleanup(func() {
				for _, dir := range runtimes {
					h.ok(t, "env", "BROKER_RUNTIME_DIR="+dir, filepath.Join(h.bin, "broker"), "daemon", "--stop")
				}
			})
			over(t, h)
			before, err := h.sim.count("CreateToken")
			must(t, err)
			// All have asked before the first answer.
			must(t, h.sim.fault(`{"kind":"delay","action":"CreateToken","delay_seconds":3}`))
			keys := map[string]string{}
			for i, r := range crowd() {
				d, err := parseDocument(r.stdout)
				if err != nil || r.code != 0 {
					t.Fatalf("process %d: %v: %v", i, err, r)
				}
				keys[d.AccessKeyID] = portalProfiles[i%len(portalProfiles)]
			}
			h.counted(t, "CreateToken", before+1)
			if len(keys) < len(portalProfiles) {
				t.Errorf("%d sessions for %d profiles: the test is void", len(keys), len(portalProfiles))
			}

			must(t, h.sim.post("sso/refresh/spend", ""))
			must(t, h.sim.post("sso/tokens/expire", ""))
			for _, dir := range runtimes { // the sessions of the roles still work
				h.ok(t, "env", "BROKER_RUNTIME_DIR="+dir, filepath.Join(h.bin, "broker"), "daemon", "--stop")
			}
			must(t, h.sim.fault(`{"kind":"delay","action":"CreateToken","delay_seconds":3}`))
			texts := map[string]int{}
			for round := range 2 {
				for i, r := range crowd() {
					if texts[r.stdout]++; r.code != 4 {
						t.Fatalf("round %d, process %d: %v", round, i, r)
					}
				}
				h.counted(t, "CreateToken", before+2)
			}
			if len(texts) != 1 {
				t.Errorf("they were told different texts: %q", slices.Sorted(maps.Keys(texts)))
			}
			for text := range texts {
				if !strings.HasSuffix(text, "\nhint: broker login my-sso\n") {
					t.Errorf("they were told %q", text)
				}
			}
			h.noPage(t)
		})
	}
}
