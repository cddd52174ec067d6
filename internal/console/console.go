// Package console owns the way into the AWS console: the addresses of each
// partition, the page that a person wants to see there, and how a browser is sent to it without its address being
// seen by others. It refuses to know the AWS SDK, to get credentials, and to lead anywhere but
// to a console of AWS.
package console

import (
	"net/url"
	"regexp"
	"strings"

	"broker/internal/fault"
	"broker/internal/secret"
)

// hosts are where a partition signs in, and its console.
// https://docs.aws.amazon.com/general/latest/gr/signin-service.html
// https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/using-govcloud-endpoints.html
// https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html
type hosts struct{ signIn, console string }

var partitions = map[string]hosts{
	"aws":        {"signin.aws.amazon.com", "console.aws.amazon.com"},
	"aws-cn":     {"signin.amazonaws.cn", "console.amazonaws.cn"},
	"aws-us-gov": {"signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com"},
}

// Page is a page of the console.
type Page struct {
	Partition   string // aws, aws-cn or aws-us-gov
	Region      string // may be empty: the one that the console showed last
	Service     string // as the AWS CLI or the console calls it; empty is the start page
	Destination string // the whole address instead; may be empty
}

// Federation is the endpoint that signs in to a partition. A simulator, if there is one,
// plays all partitions at its own URL. The error is a fault.Failed for a partition whose console is not known.
func Federation(partition, simulator string) (string, error) {
	h, err := hostsOf(partition)
	if err != nil {
		return "", err
	}
	if simulator != "" {
		return strings.TrimSuffix(simulator, "/") + "/federation", nil
	}
	return "https://" + h.signIn + "/federation", nil
}

func hostsOf(partition string) (hosts, error) {
	h, ok := partitions[partition]
	if !ok {
		return h, fault.New(fault.Failed, "the broker does not know the console of partition %q", partition)
	}
	return h, nil
}

var (
	// A service is a part of the path, a region one of the host.
	serviceSyntax = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+){0,7}$`)
	regionSyntax  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$`)
)

// paths are those of services whose page is not called as the AWS CLI calls them, and short names that people type.
var paths = map[string]string{
	"apigw":         "apigateway",
	"cfn":           "cloudformation",
	"codebuild":     "codesuite/codebuild",
	"codecommit":    "codesuite/codecommit",
	"codedeploy":    "codesuite/codedeploy",
	"codepipeline":  "codesuite/codepipeline",
	"cognito-idp":   "cognito/v2",
	"cw":            "cloudwatch",
	"ddb":           "dynamodbv2",
	"dynamodb":      "dynamodbv2",
	"ecs":           "ecs/v2",
	"elb":           "ec2",
	"elbv2":         "ec2",
	"logs":          "cloudwatch",
	"organizations": "organizations/v2",
	"route53":       "route53/v2",
	"sfn":           "states",
	"ssm":           "systems-manager",
	"sso-admin":     "singlesignon",
	"stepfunctions": "states",
}

// URL is the address of the page: of the partition's console and of nothing else. The host that is not a region's leads on
// to the region that is asked for, in every partition. The errors are a fault.Usage, and those of Federation.
func (p Page) URL() (string, error) {
	h, err := hostsOf(p.Partition)
	switch {
	case err != nil:
		return "", err
	case p.Destination != "" && p.Service != "":
		return "", fault.New(fault.Usage, "--destination is a whole address; --service does not go with it")
	case p.Destination != "":
		return h.own(p.Destination)
	case p.Service != "" && !serviceSyntax.MatchString(p.Service):
		return "", fault.New(fault.Usage, "%.60q is not the name of a service, such as ec2", p.Service)
	case p.Region != "" && !regionSyntax.MatchString(p.Region):
		return "", fault.New(fault.Usage, "%.60q is not the name of a region", p.Region)
	case p.Region != "" && partitionOf(p.Region) != p.Partition:
		return "", fault.New(fault.Usage, "the region %s is not one of the partition %s, in which the role is", p.Region, p.Partition)
	}
	page := "console"
	if p.Service != "" {
		page = p.Service
	}
	if path, ok := paths[page]; ok {
		page = path
	}
	u := url.URL{Scheme: "https", Host: h.console, Path: "/" + page + "/home"}
	if p.Region != "" {
		u.RawQuery = "region=" + p.Region
	}
	return u.String(), nil
}

// Valid reports whether there is such a page.
func (p Page) Valid() bool {
	_, err := p.URL()
	return err == nil
}

// partitionOf is the partition of a region.
// https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
func partitionOf(region string) string {
	for prefix, partition := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso": "aws-iso", "eu-iso": "aws-iso", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return partition
		}
	}
	return "aws"
}

// own is an address that a person gave, if it is one of the console.
func (h hosts) own(destination string) (string, error) {
	wrong := fault.New(fault.Usage, "the destination is not an address of this console, https://%s/… or below it", h.console)
	// Browsers take \\ for /, and leave out line ends and tabs; url.Parse does not.
	if len(destination) > maxDestination || strings.ContainsFunc(destination, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return "", wrong
	}
	u, err := url.Parse(destination)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return "", wrong
	}
	if u.Host != h.console && !strings.HasSuffix(u.Host, "."+h.console) || !hostSyntax.MatchString(u.Host) {
		return "", wrong
	}
	return u.String(), nil
}

// maxDestination is what browsers take, with room for the token.
const maxDestination = 4 << 10

// hostSyntax is a host name without a port.
var hostSyntax = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]+$`)

// SignIn is the address that signs a browser in and leads it on to the destination. Whoever has it within 15 minutes
// is signed in, so it is a secret.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_enable-console-custom-url.html
func SignIn(federation, destination string, token secret.String) secret.String {
	query := url.Values{"Action": {"login"}, "Issuer": {"broker"}, "Destination": {destination}, "SigninToken": {token.Reveal()}}
	return secret.New(federation + "?" + query.Encode())
}
