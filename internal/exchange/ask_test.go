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

const simMgmt = "arn:aws:iam::555566667777:role/allow-admin-from-security-account"

func TestSimulatedAccounts(t *testing.T) {
	org := stssim.Demo()
	org.Settings.AccountsPerPage = 2
	org.Accounts[3].Suspended = true
	sim, c := simulated(t, org)
	ctx := background(t)
	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	user := Keys{opened.AccessKeyID, opened.SecretAccessKey, opened.SessionToken}
	mgmt, err := c.Assume(ctx, opened, simRole(simMgmt))
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := c.Accounts(
		ctx,
		Keys{mgmt.AccessKeyID, mgmt.SecretAccessKey, mgmt.SessionToken},
		profiles.Endpoint{Region: "eu-west-1"},
	)
	if err != nil ||
		fmt.Sprint(
			accounts,
		) != "[{111122223333 security false ACTIVE } {222233334444 dev false ACTIVE } {333344445555 stage false ACTIVE } {555566667777 mgmt true ACTIVE }]" {
		t.Errorf("accounts %v, %v", accounts, err)
	}
	if n := sim.Count("ListAccounts"); n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
	_, err = c.Accounts(ctx, user, profiles.Endpoint{})
	wantFault(t, err, fault.Denied, "list the accounts of the organization: AWS denied it: You don't have permissions")

	sim.Fault(stssim.Fault{Action: "ListAccounts", Kind: stssim.Throttle, Times: 3})
	_, err = c.Accounts(ctx, user, profiles.Endpoint{})
	wantFault(t, err, fault.Throttled, "AWS asks to slow down")
	wrong := user
	wrong.Token = secret.New("x")
	_, err = c.Accounts(ctx, wrong, profiles.Endpoint{})
	wantFault(t, err, fault.ExpiredSession, "AWS does not know the session any more")

	serials, err := c.Devices(ctx, simKeys(), profiles.Endpoint{})
	if err != nil || fmt.Sprint(serials) != "["+simSerial+"]" {
		t.Errorf("devices %v, %v", serials, err)
	}
}

func TestDevicesDenied(t *testing.T) {
	org := stssim.Demo()
	org.User("security", "paul").DenyWithoutMFA = []string{"iam:*"}
	_, c := simulated(t, org)
	_, err := c.Devices(background(t), simKeys(), profiles.Endpoint{})
	wantFault(t, err, fault.Denied, "list the MFA devices of key …2222: AWS denied it: User: arn:aws:iam::111122223333:user/paul is not authorized")
	if hint := fault.Of(err).Hint; hint != "broker policy self-service" {
		t.Errorf("hint %q", hint)
	}
}

// TestStrangeLists: the response does not always come from the service.
func TestStrangeLists(t *testing.T) {
	account := func(fields string) string { return `{"Accounts":[{"Status":"ACTIVE",` + fields + `}]}` }
	devices := func(inner string) string {
		return `<ListMFADevicesResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListMFADevicesResult>` + inner + `</ListMFADevicesResult></ListMFADevicesResponse>`
	}
	tests := []struct {
		name, accounts, devices, want string
		kind                          fault.Kind
	}{
		{name: "nothing", kind: fault.BadAnswer, want: "answered 200 with nothing"},
		{
			name:     "a page",
			accounts: "<html>login</html>",
			devices:  "<html>login</html>",
			kind:     fault.BadAnswer,
			want:     "answered 200 with a web page",
		},
		{
			name:     "the other",
			accounts: devices(""),
			devices:  account(`"Id":"111122223333"`),
			kind:     fault.BadAnswer,
			want:     "not an answer of",
		},
		{
			name:     "half",
			accounts: `{"Accounts":[{"Id":`,
			devices:  `<ListMFADevicesResponse><List`,
			kind:     fault.BadAnswer,
			want:     "",
		},
		{
			name:     "a field",
			accounts: account(`"Id":"1111"`),
			devices:  devices("<MFADevices><member><SerialNumber>a b</SerialNumber></member></MFADevices>"),
			kind:     fault.BadAnswer,
			want:     "invalid",
		},
		{
			name:     "no field",
			accounts: account(`"Name":"x"`),
			devices:  devices("<MFADevices><member></member></MFADevices>"),
			kind:     fault.BadAnswer,
			want:     "has no",
		},
		{
			name:     "a long name",
			accounts: account(`"Id":"111122223333","Name":"` + strings.Repeat("x", 300) + `"`),
			devices: devices(
				"<MFADevices><member><SerialNumber>" + strings.Repeat("x", 300) + "</SerialNumber></member></MFADevices>",
			),
			kind: fault.BadAnswer,
			want: "invalid",
		},
		{
			name:     "no end",
			accounts: `{"NextToken":"again"}`,
			devices:  devices("<IsTruncated>true</IsTruncated><Marker>again</Marker>"),
			kind:     fault.BadAnswer,
			want:     "an endless list",
		},
	}
	for _, tt := range tests {
		for _, ask := range []string{"accounts", "devices"} {
			t.Run(tt.name+"/"+ask, func(t *testing.T) {
				body, kind := tt.accounts, "application/x-amz-json-1.1"
				if ask == "devices" {
					body, kind = tt.devices, "text/xml"
				}
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", kind)
					_, _ = w.Write([]byte(body))
				}))
				t.Cleanup(server.Close)
				c := New(Options{STSEndpoint: server.URL, Timeout: 5 * time.Second})
				var err error
				if ask == "accounts" {
					_, err = c.Accounts(background(t), userKeys(), profiles.Endpoint{})
				} else {
					_, err = c.Devices(background(t), userKeys(), profiles.Endpoint{})
				}
				wantFault(t, err, tt.kind, tt.want)
			})
		}
	}
}

// TestGlobalEndpoints: the region of a profile leads to its partition's only endpoint.
func TestGlobalEndpoints(t *testing.T) {
	tests := []struct{ region, iam, organizations string }{
		{"eu-west-1", "iam.amazonaws.com", "organizations.us-east-1.amazonaws.com"},
		{"", "iam.amazonaws.com", "organizations.us-east-1.amazonaws.com"},
		{"aws-global", "iam.amazonaws.com", "organizations.us-east-1.amazonaws.com"},
		{"cn-north-1", "iam.cn-north-1.amazonaws.com.cn", "organizations.cn-northwest-1.amazonaws.com.cn"},
		{"us-gov-east-1", "iam.us-gov.amazonaws.com", "organizations.us-gov-west-1.amazonaws.com"},
		{"eusc-de-east-1", "iam.eusc-de-east-1.amazonaws.eu", "organizations.eusc-de-east-1.amazonaws.eu"},
		{"us-iso-east-1", "iam.us-iso-east-1.c2s.ic.gov", "organizations.us-iso-east-1.c2s.ic.gov"},
	}
	for _, tt := range tests {
		var hosts []string
		c := New(Options{Timeout: 5 * time.Second})
		c.pools[way{}] = &pool{transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			hosts = append(hosts, r.URL.Host)
			return &http.Response{StatusCode: 403, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})}
		_, err := c.Devices(background(t), userKeys(), profiles.Endpoint{Region: tt.region})
		_, err2 := c.Accounts(background(t), userKeys(), profiles.Endpoint{Region: tt.region})
		if fmt.Sprint(hosts) != fmt.Sprint([]string{tt.iam, tt.organizations}) {
			t.Errorf("region %q: hosts %v (%v, %v)", tt.region, hosts, err, err2)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
