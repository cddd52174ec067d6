//go:build unix

package exchange

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/stssim"
)

// TestSimulatedOrganization: accounts with their units, page by page; and without them if AWS denies them.
func TestSimulatedOrganization(t *testing.T) {
	org := stssim.Demo()
	org.Settings.AccountsPerPage = 1
	for i, ou := range []string{"", "Workloads/Dev", "Workloads/Dev", "Workloads/Prod/EU", "Mgmt"} {
		org.Accounts[i].OU = ou
	}
	org.Accounts[2].Suspended = true
	sim, c := simulated(t, org)
	ctx := background(t)
	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	mgmt, err := c.Assume(ctx, opened, simRole(simMgmt))
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{mgmt.AccessKeyID, mgmt.SecretAccessKey, mgmt.SessionToken}
	list, denied, err := c.AllAccounts(ctx, keys, profiles.Endpoint{Region: "eu-west-1"})
	got := ""
	for _, a := range list {
		got += fmt.Sprintln(a.Name, a.State, a.Path)
	}
	const want = "security ACTIVE Root\ndev ACTIVE Root/Workloads/Dev\nstage SUSPENDED Root/Workloads/Dev\n" +
		"prod ACTIVE Root/Workloads/Prod/EU\nmgmt ACTIVE Root/Mgmt\n"
	if err != nil || denied != nil || got != want {
		t.Errorf("%v, %v, got\n%s", err, denied, got)
	}
	for _, action := range []string{"ListRoots", "ListAccountsForParent", "ListOrganizationalUnitsForParent"} {
		sim.Fault(stssim.Fault{Action: action, Kind: stssim.ErrorAnswer, Code: "AccessDeniedException", Message: "no", Status: 400})
		list, denied, err := c.AllAccounts(ctx, keys, profiles.Endpoint{})
		if err != nil || len(list) != 5 || list[1].Path != "" {
			t.Errorf("%s denied: %+v, %v", action, list, err)
		}
		wantFault(t, denied, fault.Denied, "AWS denied it: no")
		sim.Fault(stssim.Fault{Action: action, Kind: stssim.Throttle, Times: 3})
		_, _, err = c.AllAccounts(ctx, keys, profiles.Endpoint{})
		wantFault(t, err, fault.Throttled, "AWS asks to slow down")
	}
}

// TestStrangeUnits: names and ids of units come from others, and the answer may come from anybody.
func TestStrangeUnits(t *testing.T) {
	serve := func(units string) *Client {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			switch _, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); action {
			case "ListAccounts":
				_, _ = w.Write([]byte(`{"Accounts":[{"Id":"111122223333","Name":"a","State":"ACTIVE"}]}`))
			case "ListRoots":
				_, _ = w.Write([]byte(`{"Roots":[{"Id":"r-abcd","Name":"Root"}]}`))
			case "ListAccountsForParent":
				_, _ = w.Write([]byte(`{"Accounts":[{"Id":"111122223333"}]}`))
			default:
				_, _ = w.Write([]byte(units))
			}
		}))
		t.Cleanup(server.Close)
		return New(Options{STSEndpoint: server.URL, Timeout: patience})
	}
	unit := func(id, name string) string {
		return `{"OrganizationalUnits":[{"Id":"` + id + `","Name":"` + name + `"}]}`
	}
	for units, want := range map[string]string{
		unit("ou-abcd-../../x", "x"):                          "invalid",
		unit("ou-abcd-11112222", ""):                          "Name",
		unit("ou-abcd-11112222", strings.Repeat("x", 600)):    "invalid",
		`<html>login</html>`:                                  "a web page",
		unit("ou-abcd-11112222", "the unit is within itself"): "more than 2000 organizational units",
	} {
		_, _, err := serve(units).AllAccounts(background(t), userKeys(), profiles.Endpoint{})
		wantFault(t, err, fault.BadAnswer, want)
	}
}

// TestSimulatedRole: what IAM says about a role, asked with the role's own session.
func TestSimulatedRole(t *testing.T) {
	sim, c := simulator(t)
	ctx := background(t)
	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	for arn, want := range map[string]RoleFacts{
		simLong: {12 * time.Hour, true},
		"arn:aws:iam::333344445555:role/untagged": {time.Hour, false},
	} {
		creds, err := c.Assume(ctx, opened, simRole(arn))
		if err != nil {
			t.Fatal(err)
		}
		keys := Keys{creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken}
		if got, err := c.Role(ctx, keys, profiles.Endpoint{}, arn); err != nil || got != want {
			t.Errorf("%s: %+v, %v", arn, got, err)
		}
		sim.Fault(stssim.Fault{Action: "GetRole", Kind: stssim.MissingFields, Fields: []string{"MaxSessionDuration"}})
		_, err = c.Role(ctx, keys, profiles.Endpoint{}, arn)
		wantFault(t, err, fault.BadAnswer, "MaxSessionDuration")
	}
}

func TestAllowsTags(t *testing.T) {
	for policy, want := range map[string]bool{
		`{"Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:tagsession"]}]}`: true,
		`{"Statement":{"Effect":"Allow","Action":"sts:*"}}`:                               true,
		`{"Statement":[{"Effect":"Allow","Action":"*"}]}`:                                 true,
		`{"Statement":[{"Effect":"Deny","Action":"sts:TagSession"}]}`:                     false,
		`{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}`:                    false,
		`{"Statement":[{"Effect":"Allow"}]}`:                                              false,
		`x`:                                                                               false,
		``:                                                                                false,
	} {
		if got := allowsTags(policy); got != want {
			t.Errorf("%s: got %t", policy, got)
		}
	}
}
