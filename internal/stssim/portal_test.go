package stssim

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/sso/types"
)

const (
	devID  = "222233334444"
	mgmtID = "555566667777"
)

// roleOf gets the credentials of a permission set.
func roleOf(sim *Sim, token *string, account, name string) (*types.RoleCredentials, error) {
	out, err := portalIn(sim, "eu-west-1").GetRoleCredentials(context.Background(), &sso.GetRoleCredentialsInput{
		AccessToken: token, AccountId: &account, RoleName: &name,
	})
	if err != nil {
		return nil, err
	}
	return out.RoleCredentials, nil
}

// holder is a caller with the credentials of a permission set.
func holder(sim *Sim, c *types.RoleCredentials) caller {
	return caller{sim: sim, keys: aws.Credentials{
		AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken,
	}}
}

func TestRoleCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		token := deviceClient(t, sim, scopeAccount).login().AccessToken
		admin, err := roleOf(sim, token, mgmtID, "Admin")
		if err != nil {
			t.Fatal(err)
		}
		if life := time.UnixMilli(admin.Expiration).Sub(sim.Now()); life > time.Hour || life < time.Hour-time.Second {
			t.Errorf("life of Admin %s", life)
		}
		who := holder(sim, admin)
		arn := who.call("GetCallerIdentity").field("Arn")
		if !strings.HasPrefix(arn, "arn:aws:sts::"+mgmtID+":assumed-role/AWSReservedSSO_Admin_") || !strings.HasSuffix(arn, "/paul") {
			t.Errorf("arn %s", arn)
		}
		// A role on top is role chaining.
		above := []string{"RoleArn", "arn:aws:iam::" + devID + ":role/OrganizationAccountAccessRole", "RoleSessionName", "test"}
		who.call("AssumeRole", above...).want(t, "", "")
		who.call("AssumeRole", append(above, "DurationSeconds", "3601")...).want(t, "ValidationError", "role chaining")
		reader, err := roleOf(sim, token, mgmtID, "ReadOnly")
		if err != nil {
			t.Fatal(err)
		}
		if life := time.UnixMilli(reader.Expiration).Sub(sim.Now()); life < 8*time.Hour-time.Second {
			t.Errorf("life of ReadOnly %s", life)
		}
		holder(sim, reader).call("ListRoles").want(t, "", "")
		holder(sim, reader).call("AssumeRole", above...).want(t, "AccessDenied", "no identity-based policy allows")

		for _, no := range [][2]string{{mgmtID, "Owner"}, {"111122223333", "Admin"}, {"999999999999", "Admin"}} {
			_, err := roleOf(sim, token, no[0], no[1])
			wantCode(t, err, "ForbiddenException", "")
			wantStatus(t, err, http.StatusForbidden)
		}
		_, err = roleOf(sim, token, "12", "Admin")
		wantCode(t, err, "InvalidRequestException", "")
		// Nobody assumes the role of a permission set.
		target := strings.Replace(strings.TrimSuffix(arn, "/paul"), ":sts:", ":iam:", 1)
		target = strings.Replace(target, "assumed-role/", "role/aws-reserved/sso.amazonaws.com/eu-west-1/", 1)
		who.call("AssumeRole", "RoleArn", target, "RoleSessionName", "test").want(t, "AccessDenied", "not authorized")

		_, err = portalIn(sim, "eu-west-1").Logout(context.Background(), &sso.LogoutInput{AccessToken: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = roleOf(sim, token, mgmtID, "Admin")
		wantCode(t, err, "UnauthorizedException", "")
		who.call("GetCallerIdentity").want(t, "", "") // sessions of roles live on
	})
}

func TestDeadAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		client := deviceClient(t, sim, scopeAccount)
		dead := func(token *string) {
			t.Helper()
			_, err := roleOf(sim, token, devID, "Admin")
			wantCode(t, err, "UnauthorizedException", "")
		}
		dead(aws.String("unknown"))
		dead(deviceClient(t, sim, "codewhisperer:completions").login().AccessToken)
		out := client.login()
		elsewhere := portalIn(sim, "us-east-1")
		_, err := elsewhere.ListAccounts(context.Background(), &sso.ListAccountsInput{AccessToken: out.AccessToken})
		wantCode(t, err, "UnauthorizedException", "")
		time.Sleep(time.Hour)
		dead(out.AccessToken)
		out, err = client.refresh(out.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := roleOf(sim, out.AccessToken, devID, "Admin"); err != nil {
			t.Fatal(err)
		}
		sim.ExpireAccessTokens()
		dead(out.AccessToken)
		if out, err = client.refresh(out.RefreshToken); err != nil {
			t.Fatal(err)
		}
		sim.EndPortalSessions("")
		dead(out.AccessToken)
		sim.SetLives(Lives{AccessToken: time.Minute, PortalSession: time.Hour})
		if out = client.login(); out.ExpiresIn != 60 {
			t.Errorf("life %d", out.ExpiresIn)
		}
		sim.SetClockOffset(time.Minute)
		dead(out.AccessToken)
	})
}

func TestPortalLists(t *testing.T) {
	sim, ctx := newDemo(t), context.Background()
	token := deviceClient(t, sim, scopeAccount).login().AccessToken
	api := portalIn(sim, "eu-west-1")
	var names []string
	accounts := sso.NewListAccountsPaginator(api, &sso.ListAccountsInput{AccessToken: token, MaxResults: aws.Int32(3)})
	for accounts.HasMorePages() {
		page, err := accounts.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, account := range page.AccountList {
			names = append(names, *account.AccountName)
		}
	}
	if got := strings.Join(names, " "); got != "dev stage prod mgmt" {
		t.Errorf("accounts %s", got)
	}
	roles, err := api.ListAccountRoles(ctx, &sso.ListAccountRolesInput{
		AccessToken: token, AccountId: aws.String(devID), MaxResults: aws.Int32(1),
	})
	if err != nil || *roles.RoleList[0].RoleName != "Admin" || roles.NextToken == nil {
		t.Fatalf("roles %+v, %v", roles, err)
	}
	for account, code := range map[string]string{
		"111122223333": "ForbiddenException", "999999999999": "ResourceNotFoundException", "x": "InvalidRequestException",
	} {
		_, err := api.ListAccountRoles(ctx, &sso.ListAccountRolesInput{AccessToken: token, AccountId: &account})
		wantCode(t, err, code, "")
	}
	_, err = api.ListAccounts(ctx, &sso.ListAccountsInput{AccessToken: token, MaxResults: aws.Int32(101)})
	wantCode(t, err, "InvalidRequestException", "")
	_, err = api.ListAccounts(ctx, &sso.ListAccountsInput{AccessToken: token, NextToken: aws.String("forged")})
	wantCode(t, err, "InvalidRequestException", "")
}

func TestPortalFaults(t *testing.T) {
	sim := newDemo(t)
	token := deviceClient(t, sim, scopeAccount).login().AccessToken
	get := func() error {
		_, err := roleOf(sim, token, devID, "Admin")
		return err
	}
	sim.Fault(Fault{Kind: Throttle, Action: "GetRoleCredentials"})
	err := get()
	wantCode(t, err, "TooManyRequestsException", "")
	wantStatus(t, err, http.StatusTooManyRequests)
	sim.Fault(Fault{Kind: ErrorAnswer, Code: "ForbiddenException", Status: 403, Action: "GetRoleCredentials"})
	wantCode(t, get(), "ForbiddenException", "")
	for _, fault := range []Fault{
		{Kind: DropBefore},
		{Kind: DropAfter},
		{Kind: Garbage},
		{Kind: Status, Status: 200, Body: "<html>captive portal</html>"},
		{Kind: Status, Status: 502, Body: "<html>bad gateway</html>"},
	} {
		fault.Action = "GetRoleCredentials"
		sim.Fault(fault)
		if err := get(); err == nil || errorCode(err) == "UnauthorizedException" {
			t.Errorf("%s: %v", fault.Kind, err)
		}
	}
	missing := []string{"secretAccessKey", "expiration"}
	sim.Fault(Fault{Kind: MissingFields, Action: "GetRoleCredentials", Fields: missing})
	out, err := roleOf(sim, token, devID, "Admin")
	if err != nil || out.SecretAccessKey != nil || out.Expiration != 0 || out.AccessKeyId == nil {
		t.Errorf("without members: %+v, %v", out, err)
	}
	sim.Fault(Fault{Kind: Throttle, Action: "CreateToken", Region: "us-east-1"})
	client := deviceClient(t, sim, scopeAccount)
	tokens := client.login() // in another region than the fault
	elsewhere := client
	elsewhere.api = oidcIn(sim, "us-east-1")
	_, err = elsewhere.refresh(tokens.RefreshToken)
	wantCode(t, err, "TooManyRequestsException", "")
	if n := sim.Count("GetRoleCredentials"); n != 8 {
		t.Errorf("%d calls", n)
	}
}

func TestNoTokenIsRecorded(t *testing.T) {
	sim := newDemo(t)
	client := browserClient(t, sim)
	user := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com")
	code := user.click("/authorize", client.authorization(), "allow").code()
	out, err := client.redeem(code, verifier, calledBack)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.refresh(out.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := roleOf(sim, again.AccessToken, devID, "Admin")
	if err != nil {
		t.Fatal(err)
	}
	one := deviceClient(t, sim, scopeAccount)
	started := one.start()
	one.poll(started.DeviceCode)
	records, err := json.Marshal(sim.Requests())
	if err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(sim.Portal())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{
		*client.secret, code, verifier, *out.AccessToken, *out.RefreshToken, *again.AccessToken, *again.RefreshToken,
		*keys.SecretAccessKey, *keys.SessionToken, *started.DeviceCode,
	} {
		if strings.Contains(string(records), secret) || strings.Contains(string(state), secret) {
			t.Errorf("a secret was recorded: %.20s…", secret)
		}
	}
	if !strings.Contains(string(records), `"grantType":"refresh_token"`) {
		t.Error("the grant type was not recorded")
	}
}
