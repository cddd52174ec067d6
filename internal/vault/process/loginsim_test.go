package process

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

const simStart = "https://demo.awsapps.com/start"

// visit does what a browser does with a page that asks nothing, and returns the query of the redirect.
func visit(t *testing.T, page string) url.Values {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(page)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	to, err := resp.Location()
	if err != nil {
		t.Fatalf("%s answers %d", page, resp.StatusCode)
	}
	return to.Query()
}

// TestSimulatedLogins runs the shipped vault process, with the real client, against the simulator: both flows of a
// portal and the login to the console.
func TestSimulatedLogins(t *testing.T) { testSimulatedLogins(t, 0) }

// TestSimulatedLoginsLong does it with clocks that differ.
func TestSimulatedLoginsLong(t *testing.T) { testSimulatedLogins(t, 20*time.Minute, -20*time.Minute) }

func testSimulatedLogins(t *testing.T, offsets ...time.Duration) {
	t.Setenv("BROKER_TEST_VAULT", "main")
	t.Setenv("NO_PROXY", "*")
	ctx := t.Context()
	for _, offset := range offsets {
		t.Run("clock off by "+offset.String(), func(t *testing.T) {
			sim, endpoint := simulated(t, nil)
			endpoint.URL += "/_region/eu-west-1"
			sim.SetClockOffset(offset)
			must(t, sim.AnswerPages("allow", "paul"))
			c := fileCaller(t)
			portal := profiles.Source{Name: "demo", Kind: profiles.Portal, StartURL: simStart,
				Scopes: []string{profiles.AccountScope}, Endpoint: endpoint}
			console := profiles.Source{Name: "paul", Kind: profiles.ConsoleLogin, Endpoint: endpoint,
				ARN: "arn:aws:iam::111122223333:user/paul"}
			open := func(source profiles.Source) (session.Credentials, error) {
				call := session.Call{Operation: session.CreateToken, Endpoint: endpoint}
				if source.Kind == profiles.ConsoleLogin {
					call.Operation = session.CreateOAuth2Token
				}
				return c.Open(ctx, source, call, secret.String{})
			}
			for _, source := range []profiles.Source{portal, console} {
				page, err := c.BeginLogin(ctx, source, testRedirect)
				must(t, err)
				back := visit(t, page.URL)
				if back.Get("state") != page.State {
					t.Errorf("the state is %q", back.Get("state"))
				}
				_, err = c.FinishLogin(ctx, source, page, secret.New(back.Get("code")))
				must(t, err)
				first, err := open(source)
				must(t, err)
				if left := first.Expires.Sub(sim.Now()); left < 14*time.Minute || left > time.Hour {
					t.Errorf("%s: %v left", source.Name, left)
				}
				// What AWS refused to another daemon is not what is stored now.
				must(t, c.Drop(ctx, source.Name, "sso-0123456789abcdef"))
				if same, err := open(source); err != nil || same.AccessKeyID != first.AccessKeyID {
					t.Errorf("%s: another token was refused, %v", source.Name, err)
				}
				must(t, c.Drop(ctx, source.Name, first.AccessKeyID))
				second, err := open(source)
				must(t, err)
				if second.AccessKeyID == first.AccessKeyID {
					t.Errorf("%s: the token was not refreshed", source.Name)
				}
				again, err := open(source)
				if err != nil || again.AccessKeyID != second.AccessKeyID {
					t.Errorf("%s: another token, %v", source.Name, err)
				}
				must(t, c.EndLogin(ctx, source))
				if _, err := open(source); !fault.Is(err, fault.LoginNeeded) {
					t.Errorf("%s, after its end: %v", source.Name, err)
				}
			}
			page, err := c.BeginLogin(ctx, portal, "")
			must(t, err)
			if offset != 0 {
				if _, err := c.FinishLogin(ctx, portal, page, secret.String{}); !errors.Is(err, session.ErrPending) {
					t.Errorf("not confirmed: %v", err)
				}
				time.Sleep(page.Interval)
			}
			must(t, sim.ApproveDevice(page.UserCode, ""))
			_, err = c.FinishLogin(ctx, portal, page, secret.String{})
			must(t, err)
			_, err = open(portal)
			must(t, err)
			must(t, c.Drop(ctx, portal.Name, ""))
			sim.SpendRefreshTokens()
			if _, err := open(portal); !fault.Is(err, fault.LoginNeeded) {
				t.Errorf("a dead refresh token: %v", err)
			}
			who, until, err := signInAs(t, c, console)
			if err != nil || who.ARN != console.ARN || who.Account != "111122223333" ||
				until.Sub(sim.Now()) < 11*time.Hour || until.Sub(sim.Now()) > longestSignIn {
				t.Errorf("sign in: %+v, %v, %v", who, until, err)
			}
			console.ARN = "arn:aws:iam::111122223333:user/anna"
			if _, _, err := signInAs(t, c, console); !fault.Is(err, fault.Failed) {
				t.Errorf("somebody else: %v", err)
			}
		})
	}
}

// TestSimulatedAdoption: the caller is told of a login that was taken over, also if it could not be refreshed then.
func TestSimulatedAdoption(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "main")
	t.Setenv("NO_PROXY", "*")
	for _, left := range []time.Duration{50 * time.Minute, -time.Minute} {
		w := newPageWorld(t, profiles.Portal)
		_, endpoint := simulated(t, nil)
		endpoint.URL, endpoint.Region = endpoint.URL+"/_region/eu-west-1", "eu-west-1"
		w.foreignFile(cacheOfSession, w.foreignToken(left, time.RFC3339))
		c := fileCaller(t)
		var adopted []string
		c.Adopted = func(source string) { adopted = append(adopted, source) }
		source := profiles.Source{Name: w.name, Kind: profiles.Portal, StartURL: testStart, Endpoint: endpoint}
		for range 2 {
			call := session.Call{Operation: session.CreateToken, Endpoint: endpoint}
			_, err := c.Open(t.Context(), source, call, secret.String{})
			if left > 0 && err != nil || left < 0 && !fault.Is(err, fault.LoginNeeded) {
				t.Errorf("%v left: %v", left, err)
			}
		}
		if len(adopted) != 1 || adopted[0] != w.name {
			t.Errorf("%v left: adopted %q", left, adopted)
		}
	}
}

// signInAs logs in to the console with a code that the page shows.
func signInAs(t *testing.T, c *vault.Caller, source profiles.Source) (vault.Identity, time.Time, error) {
	t.Helper()
	page, err := c.BeginLogin(t.Context(), source, "")
	must(t, err)
	return c.FinishSignIn(t.Context(), source, page, secret.New(visit(t, page.URL).Get("code")))
}
