package client

import (
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/wire"
)

func TestWithoutPassword(t *testing.T) {
	for proxy, want := range map[string]string{
		"":                                 "",
		"http://proxy:3128":                "http://proxy:3128",
		"http://paul:secret@proxy:3128":    "http://proxy:3128",
		"http://paul:secret@proxy:3128/x":  "http://proxy:3128/x",
		"paul:secret@proxy:3128":           "proxy:3128",
		"proxy:3128":                       "proxy:3128",
		"http://paul:sec@secret@proxy":     "http://proxy",
		"http://paul:sec/secret@proxy":     "http://proxy",
		"socks5://paul:sec/r/secret@proxy": "socks5://proxy",
	} {
		if got := WithoutPassword(proxy); got != want {
			t.Errorf("%s: %s, want %s", proxy, got, want)
		}
	}
}

// TestOtherRouteOfBoth checks which difference is named if the shell has both another proxy and another CA bundle:
// the failure decides.
func TestOtherRouteOfBoth(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:1")
	t.Setenv("AWS_CA_BUNDLE", "/ca.pem")
	untrusted := fault.New(fault.Network, "do not trust STS").WithHint("broker config set ca_bundle FILE")
	for _, tt := range []struct {
		failed *fault.Error
		route  wire.Route
		hint   string
	}{
		{untrusted, wire.Route{}, "broker config set ca_bundle /ca.pem"},
		{untrusted, wire.Route{CABundle: "/ca.pem"}, "broker config set https_proxy http://proxy:1"},
		{untrusted, wire.Route{HTTPSProxy: "http://proxy:1"}, "broker config set ca_bundle /ca.pem"},
		{fault.New(fault.Network, "cannot reach the proxy"), wire.Route{HTTPSProxy: "http://old:1"},
			"broker config set https_proxy http://proxy:1"},
	} {
		if got := OtherRoute(tt.failed, &tt.route); string(got.Hint) != tt.hint {
			t.Errorf("%s, %+v: hint %q, want %q", tt.failed, tt.route, got.Hint, tt.hint)
		}
	}
}

// TestOtherRoute checks that a failed call names what this shell has and the daemon does not use, and nothing else.
func TestOtherRoute(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	failed := fault.New(fault.Network, "cannot reach STS").WithHint("broker explain prod")
	for _, tt := range []struct {
		env, value string
		route      *wire.Route
		says, hint string
	}{
		{"https_proxy", "http://paul:secret@proxy:1", &wire.Route{}, "; your shell has HTTPS_PROXY, Broker uses none",
			"broker config set https_proxy http://proxy:1"},
		{"HTTPS_PROXY", "http://proxy:1", &wire.Route{HTTPSProxy: "http://other:1"},
			"; your shell has HTTPS_PROXY, Broker uses http://other:1", "broker config set https_proxy http://proxy:1"},
		{"HTTPS_PROXY", "http://paul:secret@proxy:1", &wire.Route{HTTPSProxy: "http://proxy:1"}, "", "broker explain prod"},
		{"AWS_CA_BUNDLE", "/my ca.pem", &wire.Route{}, "; your shell has AWS_CA_BUNDLE, Broker uses none",
			"broker config set ca_bundle '/my ca.pem'"},
		{"AWS_CA_BUNDLE", "/ca.pem", &wire.Route{CABundle: "/ca.pem"}, "", "broker explain prod"},
		{"HTTPS_PROXY", "http://proxy:1", nil, "", "broker explain prod"},
		{"HTTPS_PROXY", "", &wire.Route{HTTPSProxy: "http://proxy:1"}, "", "broker explain prod"},
	} {
		t.Run(tt.env, func(t *testing.T) {
			t.Setenv(tt.env, tt.value)
			got := OtherRoute(failed, tt.route)
			if got.Error() != "cannot reach STS"+tt.says || string(got.Hint) != tt.hint ||
				strings.Contains(got.Report("x"), "secret") || got.Kind != fault.Network {
				t.Errorf("%s: %q, %q", tt.value, got.Error(), got.Hint)
			}
		})
	}
}
