package cli

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/version"
	"broker/internal/wire"
)

// dockerHelper is the name under which Docker runs this program as a credential helper.
const dockerHelper = "docker-credential-broker"

// asDockerHelper returns args, or the command of Docker's helper if the program was started under its name.
func asDockerHelper(args []string) []string {
	if len(args) > 0 && strings.TrimSuffix(filepath.Base(args[0]), ".exe") == dockerHelper {
		if len(args) == 2 && (args[1] == "--version" || args[1] == "-v") {
			args = []string{args[0], "version"}
		}
		return append([]string{"broker", "token", "docker"}, args[1:]...)
	}
	return args
}

func (p *program) tokenDockerCommand() *cli.Command {
	return &cli.Command{
		Name:      "docker",
		Usage:     "answer Docker, as the program " + dockerHelper,
		UsageText: "broker token docker list",
		ArgsUsage: "OPERATION",
		Description: "Docker, Podman and others run " + dockerHelper + " if it is in credHelpers of\n" +
			"~/.docker/config.json. OPERATION is get, store, erase, list or version. The profile is\n" +
			"AWS_PROFILE or BROKER_PROFILE, or else the only profile with a role in the account of the registry.",
		Action: p.tokenDocker,
	}
}

// maxDockerInput limits what Docker sends, in bytes.
const maxDockerInput = 64 << 10

// tokenDocker speaks the protocol of Docker's credential helpers. Docker reads the reason of a failure from stdout.
// https://github.com/docker/docker-credential-helpers
func (p *program) tokenDocker(c *cli.Context) error {
	operation, err := one(c, "operation")
	if err != nil {
		return err
	}
	var answer any
	switch operation {
	case "get":
		answer, err = p.dockerGet(c)
	case "store":
		err = p.dockerStore()
	case "erase": // nothing is stored
	case "list":
		answer = struct{}{}
	case "version": // name, package and version, as the helpers of Docker print them
		p.say("%s (broker) %s", dockerHelper, version.String())
	default:
		return fault.New(fault.Usage, "%q is not an operation; use get, store, erase, list or version", operation).
			WithHint("%s --help", typed(c))
	}
	if err != nil {
		if p.interrupts.Err() != nil {
			return err
		}
		f := fault.Of(err)
		text := f.Error() + "\n"
		if hint := f.ShownHint(); hint != "" && f != errNoRegistry { // Docker compares the whole text
			text += "hint: " + hint + "\n"
		}
		_, _ = io.WriteString(p.text, text)
		return exitError(f.Kind.ExitCode())
	}
	if answer == nil {
		return nil
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(append(text, '\n'))
	return err
}

// errNoRegistry has the text that tells Docker to go on without credentials.
var errNoRegistry = &fault.Error{Kind: fault.NotFound, Message: "credentials not found in native keychain"}

// dockerLogin is what Docker sends and gets.
type dockerLogin struct{ ServerURL, Username, Secret string }

func (p *program) dockerInput() (string, error) {
	text, err := io.ReadAll(io.LimitReader(p.stdin, maxDockerInput+1))
	switch {
	case err != nil:
		return "", fault.New(fault.Failed, "read what Docker sends: %w", err)
	case len(text) > maxDockerInput:
		return "", fault.New(fault.Usage, "Docker sent more than %d bytes", maxDockerInput)
	}
	return strings.TrimSpace(string(text)), nil
}

func (p *program) dockerGet(c *cli.Context) (any, error) {
	server, err := p.dockerInput()
	if err != nil {
		return nil, err
	}
	account, region, ok := registryOf(server)
	if !ok {
		return nil, errNoRegistry
	}
	name, err := p.dockerProfile(account)
	if err != nil {
		return nil, err
	}
	made, err := p.makeToken(c.Context, name, wire.TokenTerms{Service: wire.TokenECR, Region: region})
	if err != nil {
		return nil, err
	}
	return dockerLogin{server, made.User, made.Token.Reveal()}, nil
}

// dockerStore accepts a login to a registry of ECR and drops it, because Broker makes such logins itself. It refuses
// every other login, which would be lost.
func (p *program) dockerStore() error {
	text, err := p.dockerInput()
	if err != nil {
		return err
	}
	var login dockerLogin
	if err := json.Unmarshal([]byte(text), &login); err != nil {
		return fault.New(fault.Usage, "what Docker sent is not JSON")
	}
	if _, _, ok := registryOf(login.ServerURL); !ok {
		return fault.New(fault.Usage,
			"Broker stores no logins; in ~/.docker/config.json, name it in credHelpers and not in credsStore")
	}
	return nil
}

// registryHost is the name of a private registry of ECR, also for FIPS and with IPv6, and registryDomains are the
// domains of AWS in which such names are.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
// https://docs.aws.amazon.com/general/latest/gr/ecr.html
var (
	registryHost    = lazyregexp.New(`^([0-9]{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9-]{1,32})\.([a-z0-9.-]+)$`)
	registryDomains = []string{"amazonaws.com", "on.aws", "amazonaws.com.cn", "on.amazonwebservices.com.cn",
		"amazonaws.eu",
		"c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov"}
)

// registryOf returns the account and the region of a registry of ECR, as Docker names it: with or without https:// and
// a path.
func registryOf(server string) (account, region string, ok bool) {
	server = strings.TrimPrefix(server, "https://")
	host, _, _ := strings.Cut(server, "/")
	m := registryHost.FindStringSubmatch(strings.TrimSuffix(host, ":443"))
	if m == nil || !slices.Contains(registryDomains, m[4]) || partition.OfRegion(m[3]) == "" {
		return "", "", false
	}
	return m[1], m[3], true
}

// dockerProfile returns the profile for a registry of an account.
func (p *program) dockerProfile(account string) (string, error) {
	set, err := p.set()
	if err != nil {
		return "", err
	}
	for _, variable := range []string{"AWS_PROFILE", "BROKER_PROFILE"} {
		// broker exec with several profiles sets BROKER_PROFILE to all of them, and AWS_PROFILE to the first.
		if name := os.Getenv(variable); name != "" && !strings.Contains(name, ",") {
			return set.Find(name)
		}
	}
	var names []string
	for _, s := range set.List() {
		if s.Kind == profiles.KindRole && s.AccountID == account && s.Problem == "" {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return "", fault.New(fault.NotFound, "no profile has a role in the account %s of the registry; "+
			"set AWS_PROFILE to the profile to use", account).WithHint("broker profiles list")
	case 1:
		return names[0], nil
	}
	return "", fault.New(fault.Usage, "several profiles have a role in the account %s of the registry; set AWS_PROFILE "+
		"to one of them: %s", account, fault.Line(strings.Join(names, ", "))).WithHint("export AWS_PROFILE=%s", names[0])
}
