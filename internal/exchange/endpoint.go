package exchange

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyendpoints "github.com/aws/smithy-go/endpoints"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/profiles"
)

// location is where a call goes, and which region signs it.
type location struct {
	region string // never empty; "aws-global" is the global endpoint
	url    string // overrides the endpoint of the region; may be empty
	fips   bool
	legacy bool
	// compatible says that an STS other than AWS's is at the url. The form and the lifetime of its credentials are
	// checked. An ARN in its answer must be that of the role, but the account may be missing, and it may return no
	// ARN.
	compatible bool
	// listener says who besides the user may listen at a url of plain http.
	listener string
}

// isPlain reports whether the url is plain http, which checkURL accepts only on loopback.
func (to location) isPlain() bool { return len(to.url) >= 5 && strings.EqualFold(to.url[:5], "http:") }

// globalRegion is the name that AWS tools use for the global endpoint.
const globalRegion = "aws-global"

// maxRegion is far longer than the name of any region.
const maxRegion = 64

// regionSyntax prevents a region from changing the host name.
var regionSyntax = lazyregexp.New(`^[a-z0-9]+(-[a-z0-9]+){0,7}$`)

// locate decides where a call goes, from configuration alone. The order of precedence is: the settings, the
// profile's own URL, FIPS, the legacy list, the region.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
func (c *Client) locate(e profiles.Endpoint, resource string) (location, error) {
	to := location{region: e.Region, fips: e.FIPS, legacy: e.Legacy}
	if to.region == "" {
		id := cmp.Or(partition.OfARN(resource), partition.Default)
		of, ok := partition.Find(id)
		if !ok {
			return location{}, fmt.Errorf("the profile has no region, and partition %q is not known", id)
		}
		to.region = of.FirstRegion
	}
	if len(to.region) > maxRegion || !regionSyntax.MatchString(to.region) {
		return location{}, fmt.Errorf("%q is not a region", to.region)
	}
	// Pseudo regions of old configurations. The SDK would remove the prefix or suffix and then use the endpoint
	// without FIPS.
	if r := strings.TrimSuffix(strings.TrimPrefix(to.region, "fips-"), "-fips"); r != to.region {
		to.region, to.fips = r, true
	}

	switch {
	case c.endpoint != "":
		to.url, to.listener = c.endpoint, profiles.AnyListener // set in the registry
		if err := checkURL(to.url); err != nil {
			return location{}, fmt.Errorf("sts_endpoint of the settings: %w", err)
		}
	case e.URL != "":
		to.url, to.listener = e.URL, e.Listener
		if err := checkURL(to.url); err != nil {
			return location{}, fmt.Errorf("endpoint_url of the profile: %w", err)
		}
	}
	if to.url != "" {
		to.fips, to.legacy = false, false
		to.compatible = e.Compatible
	}
	if to.fips {
		to.legacy = false
	}
	// The global endpoint signs as us-east-1; a URL or FIPS needs a real region.
	if to.region == globalRegion && (to.url != "" || to.fips) {
		of, _ := partition.Find(partition.Default)
		to.region = of.FirstRegion
	}
	return to, nil
}

// checkRegion rejects an endpoint without a region of its own.
func checkRegion(e profiles.Endpoint) error {
	if e.Region == "" || e.Region == globalRegion {
		return errors.New("the region is missing")
	}
	return nil
}

// checkURL rejects an endpoint that would send keys in clear text, or that has more than a location.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "":
		return fmt.Errorf("%q is not the URL of an endpoint", fault.Line(withoutUser(raw)))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("an endpoint must have only a scheme, a host, a port and a path")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && onLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%s: plain http is accepted only on loopback", u.Hostname())
	}
	return fmt.Errorf("the scheme of an endpoint is https, not %q", u.Scheme)
}

// withoutUser removes a possible password from a URL that does not parse.
func withoutUser(raw string) string {
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		return raw[i+1:]
	}
	return raw
}

func onLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// rules are the SDK's own endpoint rules with the one parameter that its configuration cannot set:
// sts_regional_endpoints = legacy. The rules contain the list of regions that the parameter affects.
type rules struct {
	sdk    sts.EndpointResolverV2
	legacy bool
}

func (r rules) ResolveEndpoint(ctx context.Context, p sts.EndpointParameters) (smithyendpoints.Endpoint, error) {
	p.UseGlobalEndpoint = aws.Bool(r.legacy)
	return r.sdk.ResolveEndpoint(ctx, p)
}

// options returns the whole configuration of the SDK. It loads nothing: sts.New reads no AWS_* variable and no
// file, unlike config.LoadDefaultConfig.
func (to location) options() sts.Options {
	return sts.Options{
		AppID:              "broker",
		Region:             to.region,
		BaseEndpoint:       text(to.url),
		EndpointOptions:    sts.EndpointResolverOptions{UseFIPSEndpoint: to.fipsState()},
		EndpointResolverV2: rules{sts.NewDefaultEndpointResolverV2(), to.legacy},
		// Only ask makes further attempts, so that a code is sent once.
		Retryer: aws.NopRetryer{},
		// Our signer corrects the time; two corrections would add up.
		DisableClockSkewCorrection: true,
	}
}

// fipsState says in the SDK's words whether calls go to the FIPS endpoint.
func (to location) fipsState() aws.FIPSEndpointState {
	if to.fips {
		return aws.FIPSEndpointStateEnabled
	}
	return aws.FIPSEndpointStateUnset
}
