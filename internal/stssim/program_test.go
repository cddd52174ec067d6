package stssim

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// program runs the test binary as stssim.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "STSSIM_AS_PROGRAM=1")
	return cmd
}

// running starts the program and waits for its line.
func running(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := program(append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !found {
		t.Fatalf("line %q, %v", line, err)
	}
	return cmd, url
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	ready, ca := filepath.Join(dir, "ready"), filepath.Join(dir, "ca.pem")
	cmd, url := running(t, "--org", "demo", "--tls", "--ca-out", ca, "--ready-file", ready, "--lifetime", "3s")
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Errorf("url %s", url)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if text, err := os.ReadFile(ready); err == nil {
			if string(text) != url+"\n" {
				t.Errorf("ready file %q", text)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no ready file")
		}
		time.Sleep(5 * time.Millisecond)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	out, err := sdk(url, client(pem)).GetSessionToken(context.Background(), &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*out.Credentials.Expiration); left > 3*time.Second {
		t.Errorf("session of %s", left)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestProgramPrints(t *testing.T) {
	sim := newDemo(t)
	before := sim.Code(paulSerial)
	code, err := program("--print-code", paulSerial, "--org", "demo").Output()
	if got := strings.TrimSpace(string(code)); err != nil || got != before && got != sim.Code(paulSerial) {
		t.Errorf("code %q, %v", code, err)
	}
	seed, err := program("--print-seed", paulSerial, "--org", "demo").Output()
	if err != nil || string(seed) != Demo().Device(paulSerial).Seed+"\n" {
		t.Errorf("seed %q, %v", seed, err)
	}
	csv, err := program("--print-csv", "paul").Output()
	key := Demo().User("security", "paul").Keys[0]
	if err != nil || string(csv) != "Access key ID,Secret access key\n"+key.ID+","+key.Secret+"\n" {
		t.Errorf("csv %q, %v", csv, err)
	}
}

func TestProgramPrintsCounts(t *testing.T) {
	cmd, url := running(t)
	defer cmd.Process.Kill()
	paul := Demo().User("security", "paul").Keys[0]
	client := sts.New(sts.Options{
		BaseEndpoint: aws.String(url), Region: "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider(paul.ID, paul.Secret, ""),
	})
	for range 2 {
		if _, err := client.GetCallerIdentity(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	out, err := program("--print-counts", url).Output()
	if want := "GetCallerIdentity 2\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
	if err := program("--print-counts", "http://127.0.0.1:1").Run(); err == nil {
		t.Error("asked nobody and ended well")
	}
}

func TestProgramFails(t *testing.T) {
	tests := []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"--nonsense"}, 2, "nonsense"},
		{[]string{"stray"}, 2, "unexpected argument: stray"},
		{[]string{"--ca-out", "x"}, 2, "--tls"},
		{[]string{"--org", "/does/not/exist"}, 1, "read organization"},
		{[]string{"--listen", "256.0.0.1:1"}, 1, "listen"},
		{[]string{"--print-code", "x"}, 1, "no such mfa device"},
		{[]string{"--print-seed", "x"}, 1, "no such mfa device"},
		{[]string{"--print-csv", "x"}, 1, "no such user"},
	}
	for _, test := range tests {
		var stderr strings.Builder
		cmd := program(test.args...)
		cmd.Stderr = &stderr
		cmd.Run()
		if cmd.ProcessState.ExitCode() != test.exit || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%q: exit %d, %q", test.args, cmd.ProcessState.ExitCode(), stderr.String())
		}
	}
	if err := program("--help").Run(); err != nil {
		t.Errorf("--help: %v", err)
	}
}

// client trusts only this CA.
func client(ca []byte) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// sdk is the AWS SDK's STS client for the user paul.
func sdk(url string, client *http.Client) *sts.Client {
	key := Demo().User("security", "paul").Keys[0]
	return sts.New(sts.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
		HTTPClient:   client,
	})
}

func TestSDK(t *testing.T) {
	sim := newDemo(t)
	plain, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	secure, err := sim.StartTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	ctx := context.Background()
	for _, api := range []*sts.Client{sdk(plain.URL, http.DefaultClient), sdk(secure.URL, client(secure.CAPEM))} {
		out, err := api.GetSessionToken(
			ctx,
			&sts.GetSessionTokenInput{SerialNumber: aws.String(paulSerial), TokenCode: aws.String(sim.FreshCode(paulSerial))},
		)
		if err != nil {
			t.Fatal(err)
		}
		session := credentials.NewStaticCredentialsProvider(
			*out.Credentials.AccessKeyId,
			*out.Credentials.SecretAccessKey,
			*out.Credentials.SessionToken,
		)
		role, err := api.AssumeRole(
			ctx,
			&sts.AssumeRoleInput{RoleArn: aws.String(prodAdmin), RoleSessionName: aws.String("sdk")},
			func(o *sts.Options) { o.Credentials = session },
		)
		if err != nil {
			t.Fatal(err)
		}
		if *role.AssumedRoleUser.Arn != "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/sdk" {
			t.Errorf("assumed %s", *role.AssumedRoleUser.Arn)
		}
	}
	// A clock that is a day off: the SDK learns the time from the Date header.
	sim.SetClockOffset(24 * time.Hour)
	if _, err := sdk(plain.URL, http.DefaultClient).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err != nil {
		t.Error(err)
	}
	if sim.Count("GetCallerIdentity") != 2 {
		t.Errorf("%d calls, want one refused and one right", sim.Count("GetCallerIdentity"))
	}
}

func TestCertificates(t *testing.T) {
	sim := newDemo(t)
	wrong, err := sim.Listen(Listener{TLS: true, WrongHost: true})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	right, err := sim.StartTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer right.Close()
	for _, test := range []struct {
		name   string
		client *http.Client
		url    string
		want   string
	}{
		{"trusted", client(right.CAPEM), right.URL, ""},
		{"unknown CA", http.DefaultClient, right.URL, "unknown authority"},
		{"wrong host", client(wrong.CAPEM), wrong.URL, "doesn't contain any IP SANs"},
	} {
		response, err := test.client.Get(test.url + "/_sim/ping")
		if test.want == "" && err == nil {
			response.Body.Close()
			continue
		}
		if err == nil || test.want == "" || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestAdmin(t *testing.T) {
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequest(method, server.URL+"/_sim/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, strings.TrimSpace(string(text))
	}
	post := func(path, body string, want int) {
		t.Helper()
		if status, text := ask("POST", path, body); status != want {
			t.Errorf("POST %s %s: %d %s, want %d", path, body, status, text, want)
		}
	}

	if status, text := ask("GET", "ping", ""); status != 200 || text != "{}" {
		t.Errorf("ping: %d %s", status, text)
	}
	if status, _ := ask("GET", "nonsense", ""); status != 404 {
		t.Errorf("nonsense: %d", status)
	}
	if status, _ := ask("GET", "reset", ""); status != 405 {
		t.Errorf("GET reset: %d", status)
	}

	post("faults", `[{"kind":"throttle","action":"GetUser"},{"kind":"error","code":"Teapot","status":418}]`, 200)
	post("faults", `{"kind":"missing","fields":["SessionToken"],"delay_seconds":0.01,"hold_seconds":0.01}`, 200)
	paul(sim).call("GetCallerIdentity").want(t, "Teapot", "")
	if r := paul(sim).call("GetSessionToken"); r.field("SessionToken") != "" || r.field("Expiration") == "" {
		t.Errorf("missing: %s", r.body)
	}
	paul(sim).call("GetUser").want(t, "Throttling", "")
	for _, bad := range []string{``, `{`, `{"kind":"explode"}`, `{"kind":"throttle","tims":3}`, `[{"kind":"throttle"},{"kind":"redirect"}]`} {
		post("faults", bad, 400)
	}
	paul(sim).call("GetUser").want(t, "", "")
	post("faults", `{"kind":"throttle"}`, 200)
	post("faults/clear", ``, 200)

	status, text := ask("GET", "counts", "")
	if want := `{"calls":{"GetCallerIdentity":1,"GetSessionToken":1,"GetUser":2},"successes":{"GetSessionToken":1,"GetUser":1}}`; status != 200 || text != want {
		t.Errorf("counts %s", text)
	}
	var records []Record
	status, text = ask("GET", "requests", "")
	if err := json.Unmarshal([]byte(text), &records); status != 200 || err != nil || len(records) != 4 ||
		records[0].Outcome != "Teapot" ||
		records[1].Fault != MissingFields ||
		records[3].Outcome != "ok" {
		t.Errorf("requests %s", text)
	}
	post("reset", "", 200)
	if status, text = ask("GET", "requests", ""); text != "[]" {
		t.Errorf("requests after reset: %d %s", status, text)
	}

	post("clock", `{"offset_seconds":-3600}`, 200)
	if off := time.Until(sim.Now()); off > -59*time.Minute {
		t.Errorf("clock off by %s", off)
	}
	post("clock", `{"offset":1}`, 400)
	post("lifetime", `{"seconds":3}`, 200)
	checkSession(t, sim.Now(), paul(sim).call("GetSessionToken"), 3)
	post("lifetime", `{"seconds":0}`, 200)
	checkSession(t, sim.Now(), paul(sim).call("GetSessionToken"), 43_200)

	session := paul(sim).session(t)
	for range 2 {
		if code := sim.FreshCode(paulSerial); code != "" {
			paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "", "")
		}
	}
	post("codes/forget", "", 200)
	if _, text := ask("GET", "code?serial="+paulSerial, ""); !strings.Contains(text, `"fresh":"`) || strings.Contains(text, `"fresh":""`) {
		t.Errorf("code %s", text)
	}
	post("sessions/revoke", `{"access_key_id":"`+session.keys.AccessKeyID+`"}`, 200)
	session.call("GetCallerIdentity").want(t, "ExpiredToken", "")
	post("sessions/revoke", `{"access_key_id":"ASIA"}`, 404)

	post("keys/delay", `{"seconds":60,"flaps":true}`, 200)
	fresh := paul(sim)
	created := fresh.call("CreateAccessKey")
	fresh.keys.AccessKeyID, fresh.keys.SecretAccessKey = created.field("AccessKeyId"), created.field("SecretAccessKey")
	fresh.call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
	fresh.call("GetCallerIdentity").want(t, "", "")
	post("keys/disable", `{"access_key_id":"`+paul(sim).keys.AccessKeyID+`"}`, 200)
	paul(sim).call("GetCallerIdentity").want(t, "InvalidClientTokenId", "")
	post("keys/disable", `{"access_key_id":"AKIA"}`, 404)
	if _, text := ask("GET", "keys", ""); !strings.Contains(text, `"access_key_id":"AKIADEMOPAULFAKE2222","status":"Inactive"`) || strings.Contains(text, "secret") {
		t.Errorf("keys %s", text)
	}
	if _, text := ask("GET", "devices", ""); !strings.Contains(text, `[{"serial":"`+paulSerial+`","user":"arn:aws:iam::111122223333:user/paul"}]`) {
		t.Errorf("devices %s", text)
	}
}

func TestRecords(t *testing.T) {
	sim := newDemo(t)
	session := paul(sim).session(t)
	session.assume(t, devAdmin)
	records := sim.Requests()
	first, second := records[0], records[1]
	if first.Action != "GetSessionToken" || first.TokenCode == "" || first.Params["TokenCode"] != first.TokenCode ||
		first.AccessKeyID != "AKIADEMOPAULFAKE2222" ||
		first.Region != "eu-west-1" ||
		first.Outcome != "ok" ||
		first.Host != "sts.eu-west-1.simulated.invalid" {
		t.Errorf("first %+v", first)
	}
	if second.RoleARN != devAdmin || second.SessionName != "test" || second.AccessKeyID != session.keys.AccessKeyID {
		t.Errorf("second %+v", second)
	}
	text, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{session.keys.SecretAccessKey, session.keys.SessionToken,
		paul(sim).keys.SecretAccessKey} {
		if strings.Contains(string(text), secret) {
			t.Error("a secret was recorded")
		}
	}
}

func TestRecordsAreBounded(t *testing.T) {
	j := newJournal()
	for range 2*keptRecords + 1 {
		j.add(&Record{Action: "X"})
	}
	if n := len(j.records); n < keptRecords || n >= 2*keptRecords {
		t.Errorf("%d records", n)
	}
	if n := j.counts.Calls["X"]; n != 2*keptRecords+1 {
		t.Errorf("count %d", n)
	}
}

func TestRequestTooLarge(t *testing.T) {
	sim := newDemo(t)
	c := paul(sim)
	if r := c.call("GetCallerIdentity", "Policy", strings.Repeat("x", maxBody)); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", r.status)
	}
}

// BenchmarkAssumeRole measures how much of two cores the simulator takes from other measurements,
// including the signing in the client.
func BenchmarkAssumeRole(b *testing.B) {
	sim := newDemo(b)
	server, err := sim.Start()
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	b.RunParallel(func(pb *testing.PB) {
		who := robot(sim)
		who.client, who.url = &http.Client{Transport: transport}, server.URL
		for pb.Next() {
			if r := who.call("AssumeRole", "RoleArn", devBuild, "RoleSessionName", "bench"); r.status != 200 {
				b.Fatal(r.status, r.body, r.err)
			}
		}
	})
}
