// Package partition holds the facts about AWS partitions that the SDK's endpoint rules do not give: which regions
// belong to a partition, which region to use if none is set, and the hosts of its console. It knows nothing about
// accounts, profiles or the SDK.
package partition

import (
	"strings"

	"broker/internal/lazyregexp"
)

// Partition is one separate AWS, with its own accounts and keys.
type Partition struct {
	ID          string // the second field of its ARNs
	FirstRegion string // the region whose STS is called if no region is set
	SignIn      string // host of the federation endpoint, which signs in to the console
	Console     string // host of the console, which redirects to the host of a region

	regions *lazyregexp.Regexp
}

// Default is the partition to assume if no ARN is given, or if no partition has the region. The SDKs default to it
// too.
const Default = "aws"

// partitions lists the partitions that the SDK's endpoint rules know. The region patterns are those of the rules;
// a test compares them. The sign-in hosts come from the rules of that service, and from:
// https://docs.aws.amazon.com/general/latest/gr/signin-service.html
// https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/using-govcloud-endpoints.html
// https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html
// https://docs.aws.eu/esc/latest/userguide/endpoints.html
var partitions = []Partition{
	{Default, "us-east-1", "signin.aws.amazon.com", "console.aws.amazon.com",
		lazyregexp.New(`^(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+$`)},
	{"aws-cn", "cn-north-1", "signin.amazonaws.cn", "console.amazonaws.cn",
		lazyregexp.New(`^cn-\w+-\d+$`)},
	{"aws-us-gov", "us-gov-west-1", "signin.amazonaws-us-gov.com", "console.amazonaws-us-gov.com",
		lazyregexp.New(`^us-gov-\w+-\d+$`)},
	{"aws-eusc", "eusc-de-east-1", "eusc-de-east-1.signin.amazonaws-eusc.eu", "console.amazonaws-eusc.eu",
		lazyregexp.New(`^eusc-(de)-\w+-\d+$`)},
	{"aws-iso", "us-iso-east-1", "signin.c2shome.ic.gov", "console.c2shome.ic.gov",
		lazyregexp.New(`^us-iso-\w+-\d+$`)},
	{"aws-iso-b", "us-isob-east-1", "signin.sc2shome.sgov.gov", "console.sc2shome.sgov.gov",
		lazyregexp.New(`^us-isob-\w+-\d+$`)},
	{"aws-iso-e", "eu-isoe-west-1", "signin.csphome.adc-e.uk", "console.csphome.adc-e.uk",
		lazyregexp.New(`^eu-isoe-\w+-\d+$`)},
	{"aws-iso-f", "us-isof-south-1", "signin.csphome.hci.ic.gov", "console.csphome.hci.ic.gov",
		lazyregexp.New(`^us-isof-\w+-\d+$`)},
}

// Find returns the partition with this ID.
func Find(id string) (Partition, bool) {
	for _, p := range partitions {
		if p.ID == id {
			return p, true
		}
	}
	return Partition{}, false
}

// OfRegion returns the ID of the partition that has the region, or "" if no partition has it.
func OfRegion(region string) string {
	for _, p := range partitions {
		if p.regions.MatchString(region) {
			return p.ID
		}
	}
	return ""
}

// OfARN returns the partition field of an ARN, known or not, or "" if the text is not an ARN.
func OfARN(arn string) string {
	if f := strings.SplitN(arn, ":", 3); len(f) == 3 && f[0] == "arn" {
		return f[1]
	}
	return ""
}

// AccountOfARN returns the account ID in an ARN of IAM, STS or Organizations, or "" if it has none.
func AccountOfARN(arn string) string {
	if !strings.HasPrefix(arn, "arn:") || strings.Count(arn, ":") != 5 {
		return ""
	}
	for range 4 {
		_, arn, _ = strings.Cut(arn, ":")
	}
	account, _, _ := strings.Cut(arn, ":")
	return account
}

// IDs returns the IDs of all partitions.
func IDs() []string {
	ids := make([]string, len(partitions))
	for i, p := range partitions {
		ids[i] = p.ID
	}
	return ids
}
