package stssim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	mgmtAdmin = "arn:aws:iam::555566667777:role/allow-admin-from-security-account"
	devOrg    = "arn:aws:iam::222233334444:role/OrganizationAccountAccessRole"
)

// organizations makes a call of AWS Organizations; the code of the reply is the one in its JSON.
func (c caller) organizations(action, body string) reply {
	c.api = apiOrganizations
	c.before = func(r *http.Request) {
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set("X-Amz-Target", targetPrefix+action)
	}
	c.raw = []byte(body)
	r := c.send(url.Values{})
	var failed struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal([]byte(r.body), &failed) == nil {
		r.code, r.message = failed.Type, failed.Message
	}
	return r
}

type accountsPage struct {
	Accounts  []struct{ ID, Name, Status string } // names are compared without regard to case
	NextToken string
}

func TestListAccounts(t *testing.T) {
	org := Demo()
	org.Settings.AccountsPerPage = 2
	org.Accounts[2].Suspended = true
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	user := paul(sim).session(t)
	mgmt := user.assume(t, mgmtAdmin)
	names, token, pages := "", "", 0
	for ; pages < 10; pages++ {
		body, _ := json.Marshal(map[string]any{"NextToken": token, "MaxResults": 20})
		if token == "" {
			body = []byte("{}")
		}
		r := mgmt.organizations("ListAccounts", string(body))
		r.want(t, "", "")
		var p accountsPage
		if err := json.Unmarshal([]byte(r.body), &p); err != nil {
			t.Fatal(err)
		}
		for _, a := range p.Accounts {
			names += a.Name + "=" + a.ID + " " + a.Status + ","
		}
		if token = p.NextToken; token == "" {
			break
		}
	}
	want := "security=111122223333 ACTIVE,dev=222233334444 ACTIVE,stage=333344445555 SUSPENDED,prod=444455556666 ACTIVE,mgmt=555566667777 ACTIVE,"
	if names != want || pages != 2 {
		t.Errorf("after %d pages: %s", pages, names)
	}
	if n := sim.Successes("ListAccounts"); n != 3 {
		t.Errorf("%d calls are counted, want 3", n)
	}
	if _, ok := sim.Requests()[len(sim.Requests())-1].Params["NextToken"]; !ok {
		t.Error("the parameters of a call are not recorded")
	}

	// A caller from another account than the management account is refused.
	for _, c := range []caller{user, user.assume(t, devAdmin), mgmt.assume(t, devOrg)} {
		c.organizations("ListAccounts", "{}").want(t, "AccessDeniedException", "You don't have permissions to access this resource.")
	}
	mgmt.organizations("ListAccounts", `{"NextToken":"x"}`).want(t, "InvalidInputException", "token")
	mgmt.organizations("ListAccounts", `{"MaxResults":21}`).want(t, "InvalidInputException", "")
	mgmt.organizations("CreateAccount", "{}").want(t, "UnknownOperationException", "CreateAccount")
	mgmt.organizations("AssumeRole", "{}").want(t, "UnknownOperationException", "")
	// The query API does not have the call either.
	mgmt.call("ListAccounts", "Version", "2016-11-28").want(t, "InvalidAction", "")
	forged := mgmt
	forged.keys.SecretAccessKey += "x"
	forged.organizations("ListAccounts", "{}").want(t, "InvalidSignatureException", "")
	sim.Fault(Fault{Action: "ListAccounts", Kind: Throttle})
	mgmt.organizations("ListAccounts", "{}").want(t, "TooManyRequestsException", "Rate exceeded")

	alone := Demo()
	alone.Accounts[4].Management = false
	if sim, err = New(alone); err != nil {
		t.Fatal(err)
	}
	paul(sim).session(t).assume(t, mgmtAdmin).organizations("ListAccounts", "{}").want(t, "AWSOrganizationsNotInUseException", "")
	alone.Accounts[0].Management, alone.Accounts[1].Management = true, true
	if _, err := New(alone); err == nil || !strings.Contains(err.Error(), "management account is defined twice") {
		t.Errorf("two management accounts: %v", err)
	}
}

// TestDenyWithoutMFA is AWS's example policy: without a code, users may not even list their devices.
func TestDenyWithoutMFA(t *testing.T) {
	org := Demo()
	org.User("security", "paul").DenyWithoutMFA = []string{"iam:ListMFADevices"}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	paul(sim).call("ListMFADevices").want(t, "AccessDenied", "is not authorized to perform: iam:ListMFADevices on resource: arn:aws:iam::111122223333:user/paul with an explicit deny")
	paul(sim).call("GetUser").want(t, "", "")
	if r := paul(sim).session(t).call("ListMFADevices"); r.field("SerialNumber") != paulSerial {
		t.Errorf("with MFA: %s", r.body)
	}
}
