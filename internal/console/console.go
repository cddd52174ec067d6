// Package console leads a person to the AWS console. It knows the addresses of each partition and of the pages
// there, and sends a browser to a page without showing the secret address to other users. It does not use the AWS
// SDK, does not get credentials, and leads only to consoles of AWS.
package console

import (
	"cmp"
	"net/url"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/secret"
)

// Page is a page of the console.
type Page struct {
	Partition   string // its id, such as aws-cn
	Region      string // if empty, the console shows the last region
	Service     string // name of the service in the AWS CLI or the console; empty for the start page
	Destination string // a complete address, instead of the other fields; may be empty
}

// Federation returns the sign-in endpoint of a partition. If simulator is set, it serves all partitions at its own
// URL. The error is a fault.Failed if the console of the partition is not known.
func Federation(id, simulator string) (string, error) {
	p, err := consoleOf(id)
	if err != nil {
		return "", err
	}
	if simulator != "" {
		return strings.TrimSuffix(simulator, "/") + "/federation", nil
	}
	return "https://" + p.SignIn + "/federation", nil
}

func consoleOf(id string) (partition.Partition, error) {
	p, ok := partition.Find(id)
	if !ok {
		return p, fault.New(fault.Failed, "Broker does not know the console of partition %q", id)
	}
	return p, nil
}

var (
	// The service becomes a part of the path, the region a part of the host.
	serviceSyntax = lazyregexp.New(`^[a-z0-9]+(-[a-z0-9]+){0,7}$`)
	regionSyntax  = lazyregexp.New(`^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$`)
)

// URL returns the address of the page, which is always in the partition's own console. The general host redirects
// to the requested region, in every partition. The errors are a fault.Usage, and those of Federation.
func (p Page) URL() (string, error) {
	of, err := consoleOf(p.Partition)
	switch {
	case err != nil:
		return "", err
	case p.Destination != "" && p.Service != "":
		return "", fault.New(fault.Usage, "--destination is a complete address and cannot be used with --service")
	case p.Destination != "":
		return own(of.Console, p.Destination)
	case p.Service != "" && !serviceSyntax.MatchString(p.Service):
		return "", fault.New(fault.Usage, "%.60q is not the name of a service, such as ec2", p.Service)
	case p.Region != "" && !regionSyntax.MatchString(p.Region):
		return "", fault.New(fault.Usage, "%.60q is not the name of a region", p.Region)
	case p.Region != "" && cmp.Or(partition.OfRegion(p.Region), partition.Default) != p.Partition:
		return "", fault.New(fault.Usage, "the region %s is not in the partition %s of the role", p.Region, p.Partition)
	}
	page := cmp.Or(pathOf(p.Service), "console")
	u := url.URL{Scheme: "https", Host: of.Console, Path: "/" + page + "/home"}
	if p.Region != "" {
		u.RawQuery = "region=" + p.Region
	}
	return u.String(), nil
}

// pathOf returns the path of a service's page, for its name in the AWS CLI or a short name that people type.
func pathOf(service string) string {
	switch service {
	case "apigw":
		return "apigateway"
	case "cfn":
		return "cloudformation"
	case "codebuild":
		return "codesuite/codebuild"
	case "codecommit":
		return "codesuite/codecommit"
	case "codedeploy":
		return "codesuite/codedeploy"
	case "codepipeline":
		return "codesuite/codepipeline"
	case "cognito-idp":
		return "cognito/v2"
	case "cw", "logs":
		return "cloudwatch"
	case "ddb", "dynamodb":
		return "dynamodbv2"
	case "ecs":
		return "ecs/v2"
	case "elb", "elbv2":
		return "ec2"
	case "organizations":
		return "organizations/v2"
	case "route53":
		return "route53/v2"
	case "sfn", "stepfunctions":
		return "states"
	case "ssm":
		return "systems-manager"
	case "sso-admin":
		return "singlesignon"
	}
	return service
}

// Valid reports whether the page exists.
func (p Page) Valid() bool {
	_, err := p.URL()
	return err == nil
}

// own returns an address that a person gave, if it is in the console at that host.
func own(host, destination string) (string, error) {
	wrong := fault.New(fault.Usage,
		"the destination is not an address of this console, https://%s/… or below it", host)
	// Browsers treat \\ as /, and drop line ends and tabs; url.Parse does not.
	if len(destination) > maxDestination ||
		strings.ContainsFunc(destination, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return "", wrong
	}
	u, err := url.Parse(destination)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return "", wrong
	}
	if u.Host != host && !strings.HasSuffix(u.Host, "."+host) || !hostSyntax.MatchString(u.Host) {
		return "", wrong
	}
	return u.String(), nil
}

// maxDestination is the longest address that browsers accept, with room for the token.
const maxDestination = 4 << 10

// hostSyntax matches a host name without a port.
var hostSyntax = lazyregexp.New(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]+$`)

// SignIn returns the address that signs a browser in and sends it to the destination. The address is a secret:
// anybody who has it within 15 minutes is signed in.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_enable-console-custom-url.html
func SignIn(federation, destination string, token secret.String) secret.String {
	query := url.Values{"Action": {"login"}, "Issuer": {"broker"}, "Destination": {destination}, "SigninToken": {token.Reveal()}}
	return secret.New(federation + "?" + query.Encode())
}
