package profiles

import (
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
)

// The answers to where a tool gets the credentials of a profile.
const (
	FromBroker = "broker" // it asks credproc
	FromElse   = "else"   // it has credentials of its own for that name
	FromNobody = "nobody" // it fails
)

// Verdict is what one tool does when it is given a profile by name.
type Verdict struct {
	Tool string
	From string // FromBroker, FromElse or FromNobody
	Text string // the same in words, with file and line
}

// A tool is how it reads a profile: what it looks for, in its order. The first
// that is there decides.
type tool struct {
	name  string
	order []way
	reads dialect
	// only is a condition under which it reads ~/.aws/config: this variable is set to something.
	only string
	// plain says that it takes a source_profile with keys or a role alone.
	plain bool
	// goesOn says that it tries credential_process where the role of the profile leads nowhere.
	goesOn bool
	// instead says what to do where it cannot read credential_process; nil where it can.
	instead func(profile string) string
}

// A way is one way to credentials that a profile can name.
type way int

const (
	wayRole way = iota
	wayWebIdentity
	waySSO
	waySharedKeys // in the credentials file
	wayConfigKeys
	wayProcess
)

// tools is the one table of what tools do. Each row was read in the source of
// the tool, or run, as it says.
var tools = func() []tool {
	// botocore.credentials.create_credential_resolver (run). Duplicate sections: its parser is strict (run).
	python := []way{wayRole, wayWebIdentity, waySSO, waySharedKeys, wayProcess, wayConfigKeys}
	// config/resolve_credentials.go, resolveCredsFromProfile (run); Terraform's AWS provider is built on it.
	goOrder := []way{wayRole, waySharedKeys, wayConfigKeys, wayWebIdentity, waySSO, wayProcess}
	// packages/credential-provider-ini, resolveProfileData.ts; aws-cdk@2 and osls@4 are built on it and were run.
	js3Order := []way{wayRole, waySharedKeys, wayConfigKeys, wayWebIdentity, wayProcess, waySSO}
	// auth/credentials/internal/ProfileCredentialsUtils.java: the one that takes the helper before keys.
	java := []way{wayWebIdentity, waySSO, wayRole, wayProcess, waySharedKeys, wayConfigKeys}
	// lib/node_loader.js: SharedIniFileCredentials, then ProcessCredentials; the first follows a source_profile to
	// keys and roles alone. The config counts only with
	// AWS_SDK_LOAD_CONFIG (run).
	js2Order := []way{wayRole, waySharedKeys, wayConfigKeys, wayProcess, wayWebIdentity}
	// serverless@3 gives --aws-profile and AWS_PROFILE to SharedIniFileCredentials alone, over the environment;
	// environment keys without either work (run).
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
		{name: "Java SDK", order: java, reads: golang}, // how it reads headers was not run
		{name: "Go SDK", order: goOrder, reads: golang},
	}
}()

// link is how a profile is made one that the AWS tools ask credproc for.
func link(profile string) fault.Hint { return fault.Hintf("broker profiles link %s", profile) }

func deployOrPublish(profile string) string {
	return string(fault.Hintf("broker exec --mode file %s -- sls deploy --aws-profile %s", profile, profile)) +
		", or " + string(fault.Hintf("broker publish %s", profile))
}

// Tools says for each tool what it does when it is given this profile by its
// exact name, from what the AWS files say. getenv is the environment of the tool.
func (s *Set) Tools(name string, getenv func(string) string) []Verdict {
	list := make([]Verdict, 0, len(tools))
	for _, t := range tools {
		from, text := s.verdict(t, name, getenv)
		list = append(list, Verdict{t.name, from, text})
	}
	return list
}

// WayOf says where the AWS files give a profile a way to credentials, whether or not that leads to any: a tool that
// finds one looks no further.
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
		return FromNobody, s.unseen(t, name)
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

// unseen says why a tool does not know a profile.
func (s *Set) unseen(t tool, name string) string {
	for d := range dialects {
		if p, _ := s.as(d).lookup(name); len(p.aws) > 0 {
			at := p.aws[len(p.aws)-1].origin
			return fmt.Sprintf("does not find the profile in the header at %s, which others read", at)
		}
	}
	return "does not know this profile; " + string(link(name))
}

// processVerdict is for a tool that starts the credential_process.
func (s *Set) processVerdict(t tool, p profile, at Origin) (from, text string) {
	words := SplitCommand(p.aws.text(keyCredentialProcess))
	if !isCredproc(words) {
		return FromElse, fmt.Sprintf("runs another program (%s)", at)
	}
	if set, _ := p.aws.find(keyCredentialProcess); set.commented && t.reads == botocore {
		return FromNobody, fmt.Sprintf("takes the comment behind the helper for arguments of it (%s); %s",
			at, link(p.name))
	}
	asks := helperProfile(words)
	if _, err := s.Resolve(asks); err != nil {
		return FromNobody, fmt.Sprintf("asks credproc for %q, which it cannot have (%s)", asks, at)
	}
	if asks != p.name {
		return FromBroker, fmt.Sprintf("asks credproc for %s", asks)
	}
	return FromBroker, "asks credproc"
}

// roleVerdict is for a tool that finds a role_arn and assumes the role itself.
func (s *Set) roleVerdict(t tool, p profile, at Origin) (from, text string) {
	if p.aws.has(keyCredentialSource) {
		return FromElse, fmt.Sprintf("assumes the role with what the machine gives it (%s)", p.aws.origin(keyCredentialSource))
	}
	name := p.aws.text(keySourceProfile)
	source, _ := s.lookup(name)
	linkIt := "; " + string(link(p.name))
	if o, ok := source.plainKey(); ok {
		return FromElse, fmt.Sprintf("assumes the role with the plain key at %s, and asks for a code of its own", o)
	}
	words := SplitCommand(source.aws.text(keyCredentialProcess))
	switch {
	case name == "":
		return FromNobody, fmt.Sprintf("reads the role_arn first (%s), which has no source_profile", at) + linkIt
	case len(source.aws) == 0:
		return FromNobody, fmt.Sprintf("reads the role_arn first (%s), whose source_profile %q is in no AWS file", at, name) + linkIt
	case isCredproc(words) && !t.plain:
		return FromBroker, fmt.Sprintf("assumes the role itself, with the session that credproc gives for %s", helperProfile(words))
	case source.aws.has(keyRoleARN), !t.plain && (source.aws.has(keySSOSession) || source.aws.has(keySSOStartURL) || len(words) > 0):
		return FromElse, fmt.Sprintf("assumes the role itself, with what it gets for %s (%s)", name, source.aws[0].origin)
	}
	return FromNobody, fmt.Sprintf("reads the role_arn first (%s), whose source_profile %q has no keys", at, name) + linkIt
}

// way finds where a profile names a way to credentials.
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
	case wayProcess:
		key = keyCredentialProcess
	}
	return v.origin(key), v.has(key)
}

// Variable is a variable of the environment that changes what a tool does.
type Variable struct{ Name, Text string }

// Environment lists the variables of an environment ("NAME=value") that win
// over a profile, or change which one is meant. No value of a secret is in it.
// The order of the sources of credentials is each SDK's own:
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
		// botocore leaves the environment out where the profile was given in the program or as a flag, and not for
		// AWS_PROFILE; the Go SDK alike (both run). JS SDK 3 skips the environment where AWS_PROFILE is set
		// (packages/credential-provider-node, defaultProvider.ts). JS SDK 2 and Java look at the environment first.
		return "wins over AWS_PROFILE in the AWS CLI, boto3, Terraform, JS SDK 2, Java and Go, but not over --profile; JS SDK 3, CDK and osls 4 take AWS_PROFILE"
	case "AWS_PROFILE", "AWS_DEFAULT_PROFILE":
		// botocore reads AWS_DEFAULT_PROFILE, then AWS_PROFILE; the others AWS_PROFILE alone.
		switch {
		case value == name:
			return ""
		case key == "AWS_DEFAULT_PROFILE":
			return fmt.Sprintf("the AWS CLI and boto3 take %q where they are given no profile, before AWS_PROFILE", value)
		}
		return fmt.Sprintf("a tool that is given no profile takes %q", value)
	case "AWS_CONFIG_FILE":
		return "tools and broker read this config instead of ~/.aws/config"
	case "AWS_SHARED_CREDENTIALS_FILE":
		return "tools and broker read this file instead of ~/.aws/credentials"
	case "AWS_WEB_IDENTITY_TOKEN_FILE":
		return "a tool that is given no profile exchanges this token; the Go SDK and Java do so before AWS_PROFILE"
	case "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI":
		// lib/node_loader.js of JS SDK 2: ECSCredentials stand before ProcessCredentials.
		return "JS SDK 2 asks there before any credential_process; the others where they find no profile"
	case "AWS_REGION", "AWS_DEFAULT_REGION":
		switch {
		case value == region:
			return ""
		case region == "":
			return fmt.Sprintf("tools work in %s; the profile has no region", value)
		case key == "AWS_REGION":
			return fmt.Sprintf("tools work in %s, not in the profile's %s; boto3 does not read it", value, region)
		}
		return fmt.Sprintf("the AWS CLI and boto3 work in %s, not in the profile's %s", value, region)
	}
	if key == "AWS_ENDPOINT_URL" || strings.HasPrefix(key, "AWS_ENDPOINT_URL_") {
		return "requests go to that address, not to AWS"
	}
	return ""
}
