package client

import (
	"os"
	"strings"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/wire"
)

// OtherRoute adds to a failed call to AWS how the route of this shell differs from the route that the call took,
// with a hint that changes it. If both proxy and CA bundle differ, it names the CA bundle if the hint of f does, or
// else the proxy. If nothing differs, or route is nil, it returns f. Passwords of proxies are not shown.
func OtherRoute(f *fault.Error, route *wire.Route) *fault.Error {
	if route == nil {
		return f
	}
	proxy := strings.TrimSuffix(WithoutPassword(environ.ProxyURL(firstSet("HTTPS_PROXY", "https_proxy"))), "/")
	bundle := os.Getenv("AWS_CA_BUNDLE")
	otherProxy := proxy != "" && proxy != strings.TrimSuffix(route.HTTPSProxy, "/")
	otherBundle := bundle != "" && bundle != route.CABundle
	untrusted := strings.HasPrefix(string(f.Hint), "broker config set ca_bundle ")
	switch {
	case otherBundle && (untrusted || !otherProxy):
		return other(f, "AWS_CA_BUNDLE", "ca_bundle", bundle, route.CABundle)
	case otherProxy:
		return other(f, "HTTPS_PROXY", "https_proxy", proxy, route.HTTPSProxy)
	}
	return f
}

func other(f *fault.Error, variable, setting, ours, theirs string) *fault.Error {
	if theirs == "" {
		theirs = "none"
	}
	g := *f
	g.Message = fault.Line(f.Error() + "; your shell has " + variable + ", Broker uses " + theirs)
	return g.WithHint("broker config set %s %s", setting, ours)
}

func firstSet(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// Public returns the route without the proxy's password, so that it can be shown.
func Public(r wire.Route) wire.Route {
	r.HTTPSProxy = WithoutPassword(r.HTTPSProxy)
	return r
}

// WithoutPassword returns the URL of a proxy without its user name and password.
func WithoutPassword(proxy string) string {
	scheme, rest, found := strings.Cut(proxy, "://")
	if !found {
		scheme, rest = "", proxy
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	if strings.Contains(path, "@") { // a password with an unescaped slash
		host, path = path[strings.LastIndexByte(path, '@')+1:], ""
	}
	if path != "" {
		host += "/" + path
	}
	if found {
		return scheme + "://" + host
	}
	return host
}
