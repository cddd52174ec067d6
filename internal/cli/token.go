package cli

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/wire"
)

func (p *program) tokenCommand() *cli.Command {
	region := &cli.StringFlag{Name: "region", Usage: "make a token for `REGION`, not for the profile's region"}
	return &cli.Command{
		Name:  "token",
		Usage: "make tokens for Kubernetes, databases and package registries",
		UsageText: "broker token eks prod --cluster main\n" +
			"broker token codeartifact prod --domain team",
		Subcommands: []*cli.Command{
			{
				Name:      "eks",
				Usage:     "make a token for a Kubernetes cluster of EKS",
				UsageText: "broker token eks prod --cluster main",
				ArgsUsage: "[PROFILE]",
				Description: "Prints what `aws eks get-token` prints: an ExecCredential for kubectl and its relatives. " +
					"The token is\n" +
					"signed on this machine, and is valid for 15 minutes.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "cluster", Usage: "make a token for the cluster `NAME`"},
					region,
				},
				BashComplete: p.completeProfiles,
				Action: func(c *cli.Context) error {
					terms := wire.TokenTerms{Service: wire.TokenEKS, Cluster: c.String("cluster")}
					return p.token(c, terms, func(made wire.Token) ([]byte, error) {
						return execCredential(made, p.execVersion(os.Getenv("KUBERNETES_EXEC_INFO")))
					}, "cluster")
				},
			},
			{
				Name:      "rds",
				Usage:     "make the password of a database user of RDS or Aurora",
				UsageText: "broker token rds prod --host db:5432 --user paul",
				ArgsUsage: "[PROFILE]",
				Description: "Prints what `aws rds generate-db-auth-token` prints. It is signed on this machine, " +
					"and lets the user\n" +
					"connect within 15 minutes; a connection lasts longer. The region is that of --region, or that\n" +
					"in the name of the host, or that of the profile.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "host", Usage: "make a password for the database at `HOST:PORT`"},
					&cli.StringFlag{Name: "user", Usage: "make a password for the database user `NAME`"},
					region,
				},
				BashComplete: p.completeProfiles,
				Action: func(c *cli.Context) error {
					terms := wire.TokenTerms{Service: wire.TokenRDS, Host: c.String("host"), User: c.String("user")}
					return p.token(c, terms, tokenLine, "host", "user")
				},
			},
			{
				Name:      "codeartifact",
				Usage:     "get the password of the repositories of CodeArtifact",
				UsageText: "broker token codeartifact prod --domain team",
				ArgsUsage: "[PROFILE]",
				Description: "Prints the token that npm, pip, Maven and others send to the repositories of the domain. It ends\n" +
					"with the session that Broker got it with.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "domain", Usage: "get a token for the domain `NAME`"},
					&cli.StringFlag{Name: "owner", Usage: "the domain belongs to `ACCOUNT` (default: the profile's account)"},
					region,
				},
				BashComplete: p.completeProfiles,
				Action: func(c *cli.Context) error {
					terms := wire.TokenTerms{Service: wire.TokenCodeArtifact, Domain: c.String("domain"), Account: c.String("owner")}
					return p.token(c, terms, tokenLine, "domain")
				},
			},
			p.tokenDockerCommand(),
		},
	}
}

// token gets a token for a profile and prints it in one write. The flags in needed must be set, and no flag may be
// empty.
func (p *program) token(
	c *cli.Context, terms wire.TokenTerms, print func(wire.Token) ([]byte, error), needed ...string,
) error {
	for _, flag := range needed {
		if !c.IsSet(flag) {
			return fault.New(fault.Usage, "%s needs --%s", named(c), flag).WithHint("%s --help", typed(c))
		}
	}
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; c.IsSet(name) && c.String(name) == "" {
			return fault.New(fault.Usage, "--%s is empty", name).WithHint("%s --help", typed(c))
		}
	}
	terms.Region = c.String("region")
	w, err := p.wantedArgument(c)
	if err != nil {
		return err
	}
	name, err := p.exactName(c.Context, w, fault.New(fault.Usage, "%s needs a profile", named(c)).
		WithHint("%s --help", typed(c)))
	if err != nil {
		return err
	}
	made, err := p.makeToken(c.Context, name, terms)
	if err != nil {
		return err
	}
	text, err := print(made)
	if err != nil {
		return err
	}
	if isTerminal(p.stdout) {
		p.warn([]string{"this is a secret, and your terminal keeps what it shows"})
	}
	_, err = p.stdout.Write(text)
	return err
}

// makeToken asks the daemon for a token.
func (p *program) makeToken(ctx context.Context, name string, terms wire.TokenTerms) (wire.Token, error) {
	resp, err := p.ask(ctx, wire.Request{Verb: wire.MakeToken, Profile: name, TokenTerms: &terms})
	if err != nil {
		return wire.Token{}, err
	}
	p.warn(resp.Warnings)
	if resp.Token == nil {
		return wire.Token{}, fault.New(fault.Unreachable, "the daemon's answer has no token")
	}
	return *resp.Token, nil
}

func tokenLine(made wire.Token) ([]byte, error) { return []byte(made.Token.Reveal() + "\n"), nil }

// The versions of the form in which kubectl takes a token.
// https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
const (
	execV1       = "client.authentication.k8s.io/v1"
	execV1Beta1  = "client.authentication.k8s.io/v1beta1"
	execV1Alpha1 = "client.authentication.k8s.io/v1alpha1"
)

// execVersion returns the version that KUBERNETES_EXEC_INFO asks for, by the rules of `aws eks get-token`.
func (p *program) execVersion(info string) string {
	if info == "" {
		return execV1Beta1 // kubectl before 1.20
	}
	var asked struct{ APIVersion string }
	if err := json.Unmarshal([]byte(info), &asked); err != nil {
		p.warn([]string{"KUBERNETES_EXEC_INFO is not JSON; the answer is in the version " + execV1Beta1})
		return execV1Beta1
	}
	switch asked.APIVersion {
	case execV1, execV1Beta1:
		return asked.APIVersion
	case execV1Alpha1:
		p.warn([]string{"the version " + execV1Alpha1 + " of the kubeconfig is deprecated; write v1beta1 or v1"})
		return asked.APIVersion
	}
	p.warn([]string{"KUBERNETES_EXEC_INFO asks for a version that Broker does not know; the answer is in " + execV1Beta1})
	return execV1Beta1
}

// execCredential returns the document of `aws eks get-token`, with its line ends.
func execCredential(made wire.Token, version string) ([]byte, error) {
	type status struct {
		ExpirationTimestamp string `json:"expirationTimestamp"`
		Token               string `json:"token"`
	}
	text, err := json.MarshalIndent(struct {
		Kind       string   `json:"kind"`
		APIVersion string   `json:"apiVersion"`
		Spec       struct{} `json:"spec"`
		Status     status   `json:"status"`
	}{"ExecCredential", version, struct{}{},
		status{made.Expires.UTC().Format(time.RFC3339), made.Token.Reveal()}}, "", "    ")
	return append(text, "\n\n"...), err
}
