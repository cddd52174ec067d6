package stssim

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultsInsteadOfTheCall(t *testing.T) {
	tests := []struct {
		fault  Fault
		status int
		code   string // AWS's error code
		body   string
	}{
		{Fault{Kind: Status}, 500, "", ""},
		{Fault{Kind: Status, Status: 503, Body: "<html>captive portal</html>"}, 503, "", "captive portal"},
		{Fault{Kind: Status, Status: 200, Body: "<html>captive portal</html>"}, 200, "", "captive portal"},
		{Fault{Kind: Throttle}, 400, "Throttling", "Rate exceeded"},
		{Fault{Kind: ErrorAnswer, Code: "RequestExpired", Message: "Request <has> expired."}, 400, "RequestExpired", "Request &lt;has&gt; expired."},
		{Fault{Kind: ErrorAnswer, Code: "InternalFailure", Status: 500}, 500, "InternalFailure", "<Type>Receiver</Type>"},
		{Fault{Kind: RegionDisabled}, 403, "RegionDisabledException", "STS is not activated in this region for account:111122223333."},
		{Fault{Kind: Garbage}, 200, "", "no XML"},
		{Fault{Kind: EmptyBody}, 200, "", ""},
		{Fault{Kind: Redirect, URL: "http://127.0.0.1:1/elsewhere"}, 307, "", ""},
	}
	for _, test := range tests {
		t.Run(string(test.fault.Kind), func(t *testing.T) {
			sim := newDemo(t)
			sim.Fault(test.fault)
			code := sim.Code(paulSerial)
			r := paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code)
			if r.err != nil || r.status != test.status || r.code != test.code || !strings.Contains(r.body, test.body) {
				t.Errorf("answer %d %q %q %v", r.status, r.code, r.body, r.err)
			}
			if r.header.Get("Location") != test.fault.URL {
				t.Errorf("location %q", r.header.Get("Location"))
			}
			record := sim.Requests()[0]
			if record.Fault != test.fault.Kind || record.Outcome == outcomeOK || record.Outcome == "" {
				t.Errorf("record %+v", record)
			}
			// No effect: the code is still valid, and the fault is gone.
			paul(sim).call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "", "")
		})
	}
}

func TestDroppedConnections(t *testing.T) {
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	network := paul(sim)
	network.client, network.url = &http.Client{}, server.URL
	for _, who := range []caller{paul(sim), network} {
		sim.ForgetCodes()
		code := sim.Code(paulSerial)
		sim.Fault(Fault{Kind: DropBefore})
		sim.Fault(Fault{Kind: DropAfter})
		successes := sim.Successes("GetSessionToken")
		for range 2 {
			r := who.call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code)
			if !errors.Is(r.err, io.EOF) && !errors.Is(r.err, io.ErrUnexpectedEOF) {
				t.Fatalf("answer %d %q, error %v, want a lost connection", r.status, r.body, r.err)
			}
		}
		// The first had no effect; the second used up the code.
		if sim.Successes("GetSessionToken") != successes+1 {
			t.Errorf("successes %d", sim.Successes("GetSessionToken"))
		}
		who.call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", code).want(t, "AccessDenied", "one time pass code")
	}
}

func TestMissingFields(t *testing.T) {
	sim := newDemo(t)
	for _, field := range []string{"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"} {
		sim.Fault(Fault{Kind: MissingFields, Fields: []string{field}})
		r := paul(sim).call("GetSessionToken")
		r.want(t, "", "")
		if strings.Contains(r.body, "<"+field+">") || strings.Count(r.body, "</") != 8 {
			t.Errorf("without %s: %s", field, r.body)
		}
	}
	sim.Fault(Fault{Kind: MissingFields, Fields: []string{"Credentials", "AssumedRoleUser"}})
	r := robot(sim).call("AssumeRole", "RoleArn", devBuild, "RoleSessionName", "test")
	r.want(t, "", "")
	if strings.Contains(r.body, "Secret") || strings.Contains(r.body, "Assumed") {
		t.Errorf("without credentials: %s", r.body)
	}
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		sim.Fault(Fault{Delay: 3 * time.Second, Hold: 2 * time.Second})
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			if r := sim.Requests()[0]; r.Outcome != "" || sim.Count("GetCallerIdentity") != 1 {
				t.Errorf("before the delay is over: %+v", r)
			}
			time.Sleep(3 * time.Second)
			if r := sim.Requests()[0]; r.Outcome != "ok" {
				t.Errorf("while the answer is held: %+v", r)
			}
		}()
		paul(sim).call("GetCallerIdentity").want(t, "", "")
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("took %s", d)
		}

		// If the client disconnects during the delay, there is no effect.
		sim.Fault(Fault{Delay: time.Minute})
		hasty := paul(sim)
		hasty.client = &http.Client{Transport: sim, Timeout: time.Second}
		if r := hasty.call("GetSessionToken"); r.err == nil {
			t.Error("answered a client that left")
		}
		synctest.Wait()
		if r := sim.Requests()[1]; r.Outcome != "client-gone" {
			t.Errorf("record %+v", r)
		}
	})
}

func TestSlowBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		sim.Fault(Fault{Kind: SlowBytes, Pace: 10 * time.Millisecond, Times: 2})
		start := time.Now()
		r := paul(sim).call("GetCallerIdentity")
		r.want(t, "", "")
		if d := time.Since(start); d != time.Duration(len(r.body))*10*time.Millisecond {
			t.Errorf("%d bytes took %s", len(r.body), d)
		}
		hasty := paul(sim)
		hasty.client = &http.Client{Transport: sim, Timeout: time.Second}
		if r := hasty.call("GetCallerIdentity"); r.err == nil || len(r.body) > 101 {
			t.Errorf("%d bytes in a second, error %v", len(r.body), r.err)
		}
	})
}

func TestSlowBytesOverTheNetwork(t *testing.T) {
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sim.Fault(Fault{Kind: SlowBytes, Pace: time.Millisecond})
	who := paul(sim)
	who.client, who.url = &http.Client{}, server.URL
	start := time.Now()
	r := who.call("GetCallerIdentity")
	r.want(t, "", "")
	if d := time.Since(start); d < time.Duration(len(r.body))*time.Millisecond {
		t.Errorf("%d bytes took only %s", len(r.body), d)
	}
}

func TestHugeBody(t *testing.T) {
	sim := newDemo(t)
	sim.Fault(Fault{Kind: HugeBody, Megabytes: 3})
	if r := paul(sim).call("GetCallerIdentity"); r.status != 200 || len(r.body) < 3<<20 {
		t.Errorf("status %d, %d bytes", r.status, len(r.body))
	}
}

func TestWhichCallsAFaultHits(t *testing.T) {
	const me, other = "GetCallerIdentity", "GetUser"
	outcomes := func(sim *Sim, actions ...string) string {
		var b strings.Builder
		for _, action := range actions {
			if paul(sim).call(action).code == "" {
				b.WriteString("+")
			} else {
				b.WriteString("-")
			}
		}
		return b.String()
	}
	tests := []struct {
		name   string
		faults []Fault
		want   string // outcomes of the calls me, other, me, other, me
	}{
		{"none", nil, "+++++"},
		{"once", []Fault{{}}, "-++++"},
		{"twice", []Fault{{Times: 2}}, "--+++"},
		{"always", []Fault{{Times: -1}}, "-----"},
		{"any by star", []Fault{{Action: "*", Times: 2}}, "--+++"},
		{"one action", []Fault{{Action: other}}, "+-+++"},
		{"one action, twice", []Fault{{Action: me, Times: 2}}, "-+-++"},
		{"after two", []Fault{{Skip: 2}}, "++-++"},
		{"queue", []Fault{{Action: other}, {Action: me, Skip: 1}}, "+--++"},
		{"another region", []Fault{{Region: "us-east-1"}}, "+++++"},
		{"this region", []Fault{{Region: "eu-west-1"}}, "-++++"},
		{"a role", []Fault{{Role: devAdmin}}, "+++++"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sim := newDemo(t)
			for _, f := range test.faults {
				f.Kind = Throttle
				sim.Fault(f)
			}
			if got := outcomes(sim, me, other, me, other, me); got != test.want {
				t.Errorf("outcomes %s, want %s", got, test.want)
			}
			sim.ClearFaults()
			if got := outcomes(sim, me); got != "+" {
				t.Errorf("outcome %s after ClearFaults", got)
			}
		})
	}
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	for _, f := range []Fault{{}, {Kind: "explode"}, {Kind: ErrorAnswer}, {Kind: MissingFields}, {Kind: Redirect},
		{Kind: Status, Status: 99}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("took %+v", f)
				}
			}()
			newDemo(t).Fault(f)
		}()
	}
}
