package stssim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// snapshot is a request as a Go module of the SDK records it: for each operation with all its members, which have
// placeholders such as __ClientId__ for values.
func snapshot(t *testing.T, service, operation string) string {
	t.Helper()
	module := "github.com/aws/aws-sdk-go-v2/service/" + service
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("find %s: %v", module, err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "request_snapshot", operation+".request.snap"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replay sends a snapshot with its placeholders replaced. Members without a value are left out.
func replay(t *testing.T, sim *Sim, text, host string, values map[string]string) (int, http.Header, map[string]any) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	fields, body, ok := strings.Cut(body, "\n\n")
	if !ok {
		fields, body = "", fields
	}
	first, _, _ := strings.Cut(head, "\n")
	for name, value := range values {
		first, fields = strings.ReplaceAll(first, name, value), strings.ReplaceAll(fields, name, value)
	}
	var in map[string]any
	if strings.HasPrefix(body, "{") {
		if err := json.Unmarshal([]byte(body), &in); err != nil {
			t.Fatal(err)
		}
	}
	for name, placeholder := range in {
		key, one := placeholder.(string)
		if !one {
			key = name // the members of all lists have the same placeholder
		}
		value, known := values[key]
		switch {
		case !known:
			delete(in, name)
		case one:
			in[name] = value
		default:
			in[name] = []string{value}
		}
	}
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = string(encoded)
	}
	raw := first + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.ReplaceAll(strings.TrimSpace(fields), "\n", "\r\n") + "\r\n\r\n"
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	request.RequestURI, request.URL.Scheme, request.URL.Host = "", "https", host
	request.Body = io.NopCloser(strings.NewReader(body))
	client := http.Client{Transport: sim}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if len(bytes.TrimSpace(answer)) > 0 {
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatalf("answer %q: %v", answer, err)
		}
	}
	return response.StatusCode, response.Header, out
}

// TestSnapshots replays the SDK's own requests: with placeholders, each one is understood and refused by the
// service; with values, each one succeeds.
func TestSnapshots(t *testing.T) {
	sim := newDemo(t)
	oidc, portal := "oidc.eu-west-1.amazonaws.com", "portal.sso.eu-west-1.amazonaws.com"
	placeholders := []struct{ service, operation, host, code string }{
		{"ssooidc", "RegisterClient", oidc, "InvalidClientMetadataException"},
		{"ssooidc", "StartDeviceAuthorization", oidc, "InvalidClientException"},
		{"ssooidc", "CreateToken", oidc, "InvalidClientException"},
		{"ssooidc", "CreateTokenWithIAM", oidc, "InvalidRequestException"},
		{"sso", "GetRoleCredentials", portal, "UnauthorizedException"},
		{"sso", "ListAccounts", portal, "UnauthorizedException"},
		{"sso", "ListAccountRoles", portal, "UnauthorizedException"},
		{"sso", "Logout", portal, "UnauthorizedException"},
		{"signin", "CreateOAuth2Token", signInHost, "ValidationException"},
		{"signin", "CreateOAuth2TokenWithIAM", signInHost, "ValidationException"},
		{"signin", "CreateOAuth2TokenWithTokenExchange", signInHost, "ValidationException"},
	}
	for _, test := range placeholders {
		text := snapshot(t, test.service, test.operation)
		self := map[string]string{}
		for word := range strings.SplitSeq(text, `"`) {
			self[word] = word
		}
		status, header, out := replay(t, sim, text, test.host, self)
		if status < 400 || status >= 500 || header.Get("X-Amzn-ErrorType") != test.code || out["__type"] != test.code {
			t.Errorf("%s: %d %v %v, want %s", test.operation, status, header, out, test.code)
		}
	}

	values := map[string]string{"__ClientName__": "test", "__ClientType__": "public", "scopes": scopeAccount}
	success := func(service, operation, host string) map[string]any {
		t.Helper()
		status, _, out := replay(t, sim, snapshot(t, service, operation), host, values)
		if status != 200 {
			t.Fatalf("%s: %d %v", operation, status, out)
		}
		return out
	}
	out := success("ssooidc", "RegisterClient", oidc)
	values["__ClientId__"], values["__ClientSecret__"] = out["clientId"].(string), out["clientSecret"].(string)
	values["__StartUrl__"] = demoStart
	out = success("ssooidc", "StartDeviceAuthorization", oidc)
	if err := sim.ApproveDevice(out["userCode"].(string), ""); err != nil {
		t.Fatal(err)
	}
	values["__GrantType__"], values["__DeviceCode__"] = grantDevice, out["deviceCode"].(string)
	out = success("ssooidc", "CreateToken", oidc)
	values["__AccessToken__"] = out["accessToken"].(string)
	values["__AccountId__"], values["__RoleName__"], values["&next_token=__NextToken__"] = devID, "Admin", ""
	for _, operation := range []string{"GetRoleCredentials", "ListAccounts", "ListAccountRoles", "Logout"} {
		success("sso", operation, portal)
	}
}
