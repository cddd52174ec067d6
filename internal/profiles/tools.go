package profiles

import (
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
)

// The kinds of places from which a tool gets the credentials of a profile.
const (
	FromBroker = "broker" // it asks credproc
	FromElse   = "else"   // it has other credentials for that name
	FromNobody = "nobody" // it fails
)

// Verdict is what one tool does with a profile that it is given by name.
type Verdict struct {
	Tool string
	From string // FromBroker, FromElse or FromNobody
	Text string // a description with file and line
}

// A tool describes how an AWS tool reads a profile: which ways to credentials it looks for, in its order. The
// first one that is present decides.
type tool struct {
	name  string
	order []way
	reads dialect
	// only is a variable that must be set for the tool to read ~/.aws/config; empty if it always reads it.
	only string
	// plain means that the tool follows a source_profile only to keys or another role.
	plain bool
	// goesOn means that the tool tries credential_process if the role of the profile leads nowhere.
	goesOn bool
	// instead returns what the user can do if the tool cannot read credential_process; nil if it can.
	instead func(profile string) string
}

// A way is one way to credentials that a profile can have.
type way int

const (
	wayRole way = iota
	wayWebIdentity
	waySSO
	waySharedKeys // in the credentials file
	wayConfigKeys
	wayLogin
	wayProcess
)

// tools returns the only table of what tools do. Each row comes from the tool's source code, or from running the tool
// where it says "run".
func tools() []tool {
	// botocore.credentials.create_credential_resolver (run). Duplicate sections: its parser is strict (run).
	python := []way{wayRole, wayWebIdentity, waySSO, waySharedKeys, wayLogin, wayProcess, wayConfigKeys}
	// config/resolve_credentials.go, resolveCredsFromProfile (run); Terraform's AWS provider is built on it.
	goOrder := []way{wayRole, waySharedKeys, wayConfigKeys, wayWebIdentity, waySSO, wayLogin, wayProcess}
	// packages/credential-provider-ini, resolveProfileData.ts; aws-cdk@2 and osls@4 are built on it (run).
	js3Order := []way{wayRole, waySharedKeys, wayConfigKeys, wayWebIdentity, wayProcess, waySSO, wayLogin}
	// auth/credentials/internal/ProfileCredentialsUtils.java; Java alone prefers the helper to keys.
	// Where it looks for a login_session was not tested.
	java := []way{wayWebIdentity, waySSO, wayRole, wayProcess, wayLogin, waySharedKeys, wayConfigKeys}
	// lib/node_loader.js: SharedIniFileCredentials, then ProcessCredentials. The first follows a source_profile
	// only to keys and roles. The config is read only with AWS_SDK_LOAD_CONFIG (run).
	js2Order := []way{wayRole, waySharedKeys, wayConfigKeys, wayProcess, wayWebIdentity}
	// serverless@3 passes --aws-profile and AWS_PROFILE only to SharedIniFileCredentials, which takes precedence
	// over the environment. Without either, keys in the environment work (run).
	serverless := []way{wayRole, waySharedKeys, wayConfigKeys, wayProcess}
	return []tool{
		{name: "AWS CLI", order: python},
		{name: "boto3", order: python},
		{name: "Terraform", order: goOrder, reads: golang},
		{name: "CDK", order: js3Order, reads: js3},
		{name: "JS SDK 2", order: js2Order, reads: js2, only: "AWS_SDK_LOAD_CONFIG", plain: true, goesOn: true},
		// fromNodeProviderChain (run); CDK and osls build their own chains
		{name: "JS SDK 3", order: js3Order, reads: js3, goesOn: true},
		{name: "Serverless 3", order: serverless, reads: js2, plain: true, instead: deployOrPublish},
		{name: "osls 4", order: js3Order, reads: js3},
		{name: "Java SDK", order: java, reads: golang}, // how it reads headers was not tested
		{name: "Go SDK", order: goOrder, reads: golang},
	}
}

// link returns the command that makes AWS tools ask credproc for a profile.
func link(profile string) fault.Hint { return fault.Hintf("broker profiles link %s", profile) }

func deploy(profile string) fault.Hint {
	return fault.Hintf("broker exec --mode file %s -- sls deploy --aws-profile %s", profile, profile)
}

func deployOrPublish(profile string) string {
	return string(deploy(profile)) + ", or " + string(fault.Hintf("broker publish %s", profile))
}

// Unable is a tool that cannot read credential_process.
type Unable struct {
	Name, Program string
	Delivery      fault.Hint // the command that gives it the credentials of a profile
}

// WithoutHelper returns the tools that cannot read credential_process, with the delivery of a profile to each. They
// were run; docs/tools.md has the other deliveries that work.
func WithoutHelper(profile string) []Unable {
	return []Unable{
		{"Serverless 3", "sls", deploy(profile)},
		{"Serverless 3", "serverless", deploy(profile)},
		{"s3cmd", "s3cmd", fault.Hintf("broker exec %s -- s3cmd ls", profile)},
		{"restic", "restic", fault.Hintf("broker exec --mode server %s -- restic snapshots", profile)},
	}
}

// Tools returns for each tool what it does with this profile, given by its exact name, according to the AWS files.
// getenv looks up the tool's environment.
func (s *Set) Tools(name string, getenv func(string) string) []Verdict {
	var list []Verdict
	for _, t := range tools() {
		from, text := s.verdict(t, name, getenv)
		list = append(list, Verdict{t.name, from, text})
	}
	return list
}

// WayOf returns the line where the AWS files name a way to get credentials for a profile, even if that way yields
// none. A tool that finds such a line looks for credentials nowhere else.
func (s *Set) WayOf(name string) (Origin, bool) {
	p, _ := s.lookup(name)
	for w := wayRole; w <= wayProcess; w++ {
		if at, ok := p.way(p.aws, w); ok {
			return at, true
		}
	}
	return Origin{}, false
}

func (s *Set) verdict(t tool, name string, getenv func(string) string) (from, text string) {
	r := s.as(t.reads)
	p, _ := r.lookup(name)
	for _, file := range []fileKind{configFile, credentialsFile} {
		if w := r.states[file].table.refused; w != nil && (t.only == "" || getenv(t.only) != "") {
			return FromNobody, fmt.Sprintf("refuses the whole file: the line %s (%s)", w.Text, w.Origin)
		}
	}
	if t.only != "" && getenv(t.only) == "" {
		shared := r.block(credentialsFile, SectionCredentials, name)
		if shared == nil || !slices.ContainsFunc(t.order, func(w way) bool { _, ok := p.way(view{shared}, w); return ok }) {
			open := t
			open.only = ""
			if from, text := s.verdict(open, name, getenv); from != FromNobody {
				return FromNobody, "reads the config only with " + t.only + "=1; then it " + text
			}
			return s.verdict(open, name, getenv)
		}
		p.aws = view{shared}
	}
	if len(p.aws) == 0 {
		return FromNobody, s.unseen(name)
	}
	for _, w := range t.order {
		at, ok := p.way(p.aws, w)
		if !ok {
			continue
		}
		switch w {
		case wayRole:
			from, text := r.roleVerdict(t, p, at)
			if process, ok := p.way(p.aws, wayProcess); ok && from == FromNobody && t.goesOn {
				return s.processVerdict(t, p, process)
			}
			return from, text
		case wayWebIdentity:
			return FromElse, fmt.Sprintf("exchanges a web identity token (%s)", at)
		case waySSO:
			return FromElse, fmt.Sprintf("uses IAM Identity Center (%s)", at)
		case wayLogin:
			return FromElse, fmt.Sprintf("uses the session of aws login, if the tool is new enough (%s)", at)
		case waySharedKeys, wayConfigKeys:
			if b := r.block(credentialsFile, SectionCredentials, name); w == waySharedKeys && b != nil && b.ours {
				return FromBroker, fmt.Sprintf("reads the session that broker publish keeps at %s", at)
			}
			return FromElse, fmt.Sprintf("uses the keys at %s instead", at)
		}
		if t.instead != nil {
			return FromNobody, "cannot read credential_process; " + t.instead(name)
		}
		return s.processVerdict(t, p, at)
	}
	return FromNobody, fmt.Sprintf("finds no credentials in %s; %s", p.aws[len(p.aws)-1].origin, link(name))
}

// unseen returns why a tool does not know a profile.
func (s *Set) unseen(name string) string {
	for d := range dialects {
		if p, _ := s.as(d).lookup(name); len(p.aws) > 0 {
			at := p.aws[len(p.aws)-1].origin
			return fmt.Sprintf("does not read the header at %s as a profile; other tools do", at)
		}
	}
	return "does not know this profile; " + string(link(name))
}

// processVerdict is the verdict for a tool that runs the credential_process.
func (s *Set) processVerdict(t tool, p profile, at Origin) (from, text string) {
	words := SplitCommand(p.aws.text(keyCredentialProcess))
	if !isCredproc(words) {
		return FromElse, fmt.Sprintf("runs another program (%s)", at)
	}
	if set, _ := p.aws.find(keyCredentialProcess); set.commented && t.reads == botocore {
		return FromNobody, fmt.Sprintf("passes the comment after the helper to it as arguments (%s); %s",
			at, link(p.name))
	}
	asks := helperProfile(words)
	if _, err := s.Resolve(asks); err != nil {
		return FromNobody, fmt.Sprintf("asks credproc for %q, which credproc cannot serve (%s)", asks, at)
	}
	if asks != p.name {
		return FromBroker, fmt.Sprintf("asks credproc for %s", asks)
	}
	return FromBroker, "asks credproc"
}

// roleVerdict is the verdict for a tool that finds a role_arn and assumes the role itself.
func (s *Set) roleVerdict(t tool, p profile, at Origin) (from, text string) {
	if p.aws.has(keyCredentialSource) {
		return FromElse, fmt.Sprintf("assumes the role with the machine's own credentials (%s)", p.aws.origin(keyCredentialSource))
	}
	name := p.aws.text(keySourceProfile)
	source, _ := s.lookup(name)
	linkIt := "; " + string(link(p.name))
	if o, ok := source.plainKey(); ok {
		return FromElse, fmt.Sprintf("assumes the role with the plain key at %s, and prompts for its own code", o)
	}
	words := SplitCommand(source.aws.text(keyCredentialProcess))
	switch {
	case name == "":
		return FromNobody, fmt.Sprintf("reads the role_arn first (%s), which has no source_profile", at) + linkIt
	case len(source.aws) == 0:
		return FromNobody, fmt.Sprintf("reads the role_arn first (%s), whose source_profile %q is in no AWS file", at, name) + linkIt
	case isCredproc(words) && !t.plain:
		return FromBroker, fmt.Sprintf(
			"assumes the role itself, with the session that credproc gives for %s",
			helperProfile(words),
		)
	case source.aws.has(keyRoleARN),
		!t.plain && (source.aws.has(keySSOSession) || source.aws.has(keySSOStartURL) ||
			source.aws.has(keyLoginSession) || len(words) > 0):
		return FromElse, fmt.Sprintf(
			"assumes the role itself, with the credentials that it gets for %s (%s)",
			name,
			source.aws[0].origin,
		)
	}
	return FromNobody, fmt.Sprintf("reads the role_arn first (%s), whose source_profile %q has no keys", at, name) + linkIt
}

// way returns the line at which a profile has this way to credentials.
func (p profile) way(v view, w way) (Origin, bool) {
	key := ""
	switch w {
	case wayRole:
		if v.has(keyWebIdentity) {
			return Origin{}, false
		}
		key = keyRoleARN
	case wayWebIdentity:
		key = keyWebIdentity
	case waySSO:
		key = keySSOSession
		if !v.has(key) {
			key = keySSOStartURL
		}
	case waySharedKeys, wayConfigKeys:
		for _, b := range v {
			if o := (view{b}).origin(keyAccessKeyID); o != (Origin{}) && b.shared == (w == waySharedKeys) {
				return o, true
			}
		}
		return Origin{}, false
	case wayLogin:
		key = keyLoginSession
	case wayProcess:
		key = keyCredentialProcess
	}
	return v.origin(key), v.has(key)
}

// Variable is an environment variable that changes what a tool does.
type Variable struct{ Name, Text string }

// Environment lists the variables of an environment ("NAME=value") that override a profile, or change which
// profile is used. It shows no secret value. The order in which an SDK tries sources of credentials is its own:
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
func Environment(name, region string, environ []string) []Variable {
	var list []Variable
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		if value == "" || !strings.HasPrefix(key, "AWS_") {
			continue
		}
		if text := variable(key, value, name, region); text != "" {
			list = append(list, Variable{key, text})
		}
	}
	slices.SortFunc(list, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func variable(key, value, name, region string) string {
	switch key {
	case "AWS_ACCESS_KEY_ID":
		// botocore ignores the environment if the profile was given in the program or as a flag, but not for
		// AWS_PROFILE; so does the Go SDK (both run). JS SDK 3 ignores the environment if AWS_PROFILE is set
		// (packages/credential-provider-node, defaultProvider.ts). JS SDK 2 and Java try the environment first.
		return "wins over AWS_PROFILE in the AWS CLI, boto3, Terraform, JS SDK 2, Java and Go, but not over --profile; JS SDK 3, CDK and osls 4 take AWS_PROFILE"
	case "AWS_PROFILE", "AWS_DEFAULT_PROFILE":
		// botocore reads AWS_DEFAULT_PROFILE, then AWS_PROFILE; the other SDKs read only AWS_PROFILE.
		switch {
		case value == name:
			return ""
		case key == "AWS_DEFAULT_PROFILE":
			return fmt.Sprintf("the AWS CLI and boto3 use %q, before AWS_PROFILE, if they are given no profile", value)
		}
		return fmt.Sprintf("a tool that is given no profile uses %q", value)
	case "AWS_CONFIG_FILE":
		return "tools and Broker read this config instead of ~/.aws/config"
	case "AWS_SHARED_CREDENTIALS_FILE":
		return "tools and Broker read this file instead of ~/.aws/credentials"
	case "AWS_WEB_IDENTITY_TOKEN_FILE":
		return "a tool that is given no profile exchanges this token; the Go SDK and Java do so before AWS_PROFILE"
	case "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI":
		// lib/node_loader.js of JS SDK 2 tries ECSCredentials before ProcessCredentials.
		return "JS SDK 2 asks there before any credential_process; the others if they find no profile"
	case "AWS_REGION", "AWS_DEFAULT_REGION":
		switch {
		case value == region:
			return ""
		case region == "":
			return fmt.Sprintf("tools use %s; the profile has no region", value)
		case key == "AWS_REGION":
			return fmt.Sprintf("tools use %s, not the profile's %s; boto3 does not read it", value, region)
		}
		return fmt.Sprintf("the AWS CLI and boto3 use %s, not the profile's %s", value, region)
	}
	if key == "AWS_ENDPOINT_URL" || strings.HasPrefix(key, "AWS_ENDPOINT_URL_") {
		return "requests go to that address, not to AWS"
	}
	return ""
}
