package console

import (
	"net/url"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/secret"
)

func TestPages(t *testing.T) {
	for _, test := range []struct {
		page Page
		want string
	}{
		{Page{Partition: "aws"}, "https://console.aws.amazon.com/console/home"},
		{Page{Partition: "aws", Region: "eu-west-1"}, "https://console.aws.amazon.com/console/home?region=eu-west-1"},
		{Page{Partition: "aws", Region: "ap-southeast-10", Service: "s3"}, "https://console.aws.amazon.com/s3/home?region=ap-southeast-10"},
		{Page{Partition: "aws", Service: "ssm"}, "https://console.aws.amazon.com/systems-manager/home"},
		{Page{Partition: "aws", Service: "ecs"}, "https://console.aws.amazon.com/ecs/v2/home"},
		{Page{Partition: "aws-cn", Region: "cn-north-1", Service: "ec2"}, "https://console.amazonaws.cn/ec2/home?region=cn-north-1"},
		{Page{Partition: "aws-us-gov", Region: "us-gov-west-1", Service: "ec2"}, "https://console.amazonaws-us-gov.com/ec2/home?region=us-gov-west-1"},
		{Page{Partition: "aws", Destination: "https://console.aws.amazon.com/"}, "https://console.aws.amazon.com/"},
		{Page{Partition: "aws", Destination: "https://eu-west-1.console.aws.amazon.com/s3/buckets/a?region=eu-west-1&tab=x#y=1"}, "https://eu-west-1.console.aws.amazon.com/s3/buckets/a?region=eu-west-1&tab=x#y=1"},
		{Page{Partition: "aws-cn", Destination: "https://console.amazonaws.cn/iam"}, "https://console.amazonaws.cn/iam"},
	} {
		if got, err := test.page.URL(); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v; want %q", test.page, got, err, test.want)
		}
	}
	for _, page := range []Page{
		{Partition: "aws", Service: "ec2", Destination: "https://console.aws.amazon.com/"},
		{Partition: "aws", Service: "../x"},
		{Partition: "aws", Service: "ec2?x"},
		{Partition: "aws", Service: "EC2 "},
		{Partition: "aws", Service: strings.Repeat("a-", 9) + "a"},
		{Partition: "aws", Region: "eu-west-1&x=y"},
		{Partition: "aws", Region: "aws-global"},
		{Partition: "aws", Region: "cn-north-1"},
		{Partition: "aws", Region: "us-gov-west-1"},
		{Partition: "aws", Region: "eusc-de-east-1"},
		{Partition: "aws-cn", Region: "eu-west-1"},
	} {
		if got, err := page.URL(); !fault.Is(err, fault.Usage) {
			t.Errorf("%+v: %q, %v; want a usage fault", page, got, err)
		}
	}
	if _, err := (Page{Partition: "aws-moon"}).URL(); !fault.Is(err, fault.Failed) {
		t.Errorf("a partition without a console: %v", err)
	}
}

// TestHostileDestinations: a person can be talked into a destination, so a sign-in must never go elsewhere.
func TestHostileDestinations(t *testing.T) {
	for _, destination := range []string{
		"http://console.aws.amazon.com/",
		"HTTP://console.aws.amazon.com/",
		"//console.aws.amazon.com/",
		"/ec2/home",
		"console.aws.amazon.com",
		"javascript:alert(1)//console.aws.amazon.com/",
		"https:console.aws.amazon.com/",
		"https://example.com/",
		"https://example.com/console.aws.amazon.com/",
		"https://example.com?.console.aws.amazon.com",
		"https://example.com#.console.aws.amazon.com",
		"https://example.com#@console.aws.amazon.com/",
		"https://console.aws.amazon.com.example.com/",
		"https://console.aws.amazon.com@example.com/",
		"https://user@console.aws.amazon.com/",
		"https://user:pass@console.aws.amazon.com/",
		"https://example.com\\.console.aws.amazon.com/",
		"https://example.com\\@console.aws.amazon.com/",
		"https://example.com%2f.console.aws.amazon.com/",
		"https://example.com%00.console.aws.amazon.com/",
		"https://xconsole.aws.amazon.com/",
		"https://.console.aws.amazon.com/",
		"https://a..console.aws.amazon.com/",
		"https://-a.console.aws.amazon.com/",
		"https://console.aws.amazon.com./",
		"https://console.aws.amazon.com:8443/",
		"https://console.aws.amazon.com:443/",
		"https://CONSOLE.AWS.AMAZON.COM/",
		"https://aws.amazon.com/",
		"https://signin.aws.amazon.com/oauth?redirect_uri=https://example.com",
		"https://console.amazonaws.cn/",
		"https://console.aws.amazon.com/\r\nLocation: https://example.com",
		"https://console.aws.amazon.com/\t",
		" https://console.aws.amazon.com/",
		"https://console.aws.amazon.com/\x1b[2J",
		"https://console.aws.amazon.com/\x00",
		"https://cons\u043ele.aws.amazon.com/",
		"https://[::1]/.console.aws.amazon.com",
		"https://console.aws.amazon.com/%zz",
		"https://console.aws.amazon.com/" + strings.Repeat("a", maxDestination),
	} {
		if got, err := (Page{Partition: "aws", Destination: destination}).URL(); !fault.Is(err, fault.Usage) {
			t.Errorf("%.80q: %q, %v; want a usage fault", destination, got, err)
		}
	}
}

func TestFederation(t *testing.T) {
	for partition, want := range map[string]string{
		"aws":        "https://signin.aws.amazon.com/federation",
		"aws-cn":     "https://signin.amazonaws.cn/federation",
		"aws-us-gov": "https://signin.amazonaws-us-gov.com/federation",
		"aws-eusc":   "https://eusc-de-east-1.signin.amazonaws-eusc.eu/federation",
		"aws-iso-b":  "https://signin.sc2shome.sgov.gov/federation",
	} {
		if got, err := Federation(partition, ""); err != nil || got != want {
			t.Errorf("%s: %q, %v", partition, got, err)
		}
	}
	if got, err := Federation("aws-cn", "http://127.0.0.1:4599/"); err != nil || got != "http://127.0.0.1:4599/federation" {
		t.Errorf("a simulator: %q, %v", got, err)
	}
	if _, err := Federation("aws-moon", ""); !fault.Is(err, fault.Failed) {
		t.Errorf("a partition without a console: %v", err)
	}
}

func TestSignIn(t *testing.T) {
	address := SignIn("https://signin.aws.amazon.com/federation", "https://console.aws.amazon.com/s3/home?region=eu-west-1#a&b", secret.New("to+k/en=&Action=other"))
	u, err := url.Parse(address.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"Action": {"login"}, "Issuer": {"broker"},
		"Destination": {"https://console.aws.amazon.com/s3/home?region=eu-west-1#a&b"}, "SigninToken": {"to+k/en=&Action=other"},
	}
	if u.Host != "signin.aws.amazon.com" || u.Fragment != "" || u.Query().Encode() != want.Encode() {
		t.Errorf("got %v", u)
	}
	if strings.Contains(address.String(), "to") {
		t.Error("the address can be printed")
	}
}
