// Package foreign knows the tools that Broker can import from: where they store long-lived keys and in which form,
// and how their settings in the AWS files translate to AWS's own keys. It does not open keyrings, which only the
// vault process does, and writes no files.
package foreign

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/vault"
)

// Tool is the name of a program whose keys and settings `broker import --from` imports.
type Tool string

// The tools.
const (
	AWSVault Tool = "aws-vault"
	Granted  Tool = "granted"
	Awsume   Tool = "awsume"
	AWSRunas Tool = "aws-runas"
	AWSMFA   Tool = "aws-mfa"
	AWSSSO   Tool = "aws-sso-cli"
)

var tools = []Tool{AWSVault, Granted, Awsume, AWSRunas, AWSMFA, AWSSSO}

// Names returns the names of all tools, for people.
func Names() string {
	var names []string
	for _, t := range tools {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// Known reports whether there is such a tool.
func (t Tool) Known() bool { return slices.Contains(tools, t) }

// HasKeys reports whether the tool works with long-lived keys. The others know only IAM Identity Center.
func (t Tool) HasKeys() bool { return t != AWSSSO }

// program returns the name of the tool's program.
func (t Tool) program() string {
	if t == AWSSSO {
		return "aws-sso"
	}
	return string(t)
}

// SettingsPath returns the tool's own settings file, according to our environment, or "" if the import reads none. The
// names come from internal/config/config.go of github.com/synfinatic/aws-sso-cli.
func (t Tool) SettingsPath() (string, error) {
	if t != AWSSSO {
		return "", nil
	}
	if path := os.Getenv("AWS_SSO_CONFIG"); path != "" {
		return filepath.Abs(path)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.New(fault.Failed, "%w", err)
	}
	dir := filepath.Join(home, ".aws-sso")
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join(home, ".config", "aws-sso")
		if xdg := os.Getenv("XDG_CONFIG_HOME"); xdg != "" {
			dir = filepath.Join(xdg, "aws-sso")
		}
	}
	return filepath.Join(dir, "config.yaml"), nil
}

// HasKeyrings reports whether the tool stores keys in its own keyrings; the others leave them in the AWS files.
func (t Tool) HasKeyrings() bool { return t == AWSVault || t == Granted }

// RemoveCommand returns the command that deletes a key from the keyring of the tool.
func (t Tool) RemoveCommand() string {
	if t == Granted {
		return "granted credentials remove NAME"
	}
	return "aws-vault remove NAME"
}

// PassphraseVariable returns the variable from which the tool takes the passphrase of its file keyring; "" if it
// has none.
func (t Tool) PassphraseVariable() string {
	if t == AWSVault {
		return "AWS_VAULT_FILE_PASSPHRASE"
	}
	return ""
}

// Keyrings returns the keyrings of a tool that HasKeyrings, as far as Broker can read them, according to our
// environment. The names come from cli/global.go of github.com/99designs/aws-vault, and from pkg/securestorage and
// pkg/config of github.com/common-fate/granted.
func (t Tool) Keyrings() ([]vault.Foreign, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fault.New(fault.Failed, "%w", err)
	}
	if t == Granted {
		dir := filepath.Join(home, ".granted")
		if xdg := os.Getenv("XDG_CONFIG_HOME"); xdg != "" {
			if _, err := os.Stat(dir); err != nil {
				dir = filepath.Join(xdg, "granted")
			}
		}
		const name = "aws-iam-credentials"
		return []vault.Foreign{
			{Backend: vault.SecretService, Collection: "granted-" + name},
			{Backend: vault.File, Dir: filepath.Join(dir, "secure-storage-"+name)},
		}, nil
	}
	service := vault.Foreign{Backend: vault.SecretService, Collection: "awsvault"}
	if name := os.Getenv("AWS_VAULT_SECRET_SERVICE_COLLECTION_NAME"); name != "" {
		service.Collection = name
	}
	files := vault.Foreign{Backend: vault.File, Dir: filepath.Join(home, ".awsvault/keys")}
	if dir := os.Getenv("AWS_VAULT_FILE_DIR"); dir != "" {
		if rest, ok := strings.CutPrefix(dir, "~/"); ok {
			dir = filepath.Join(home, rest)
		}
		if files.Dir, err = filepath.Abs(dir); err != nil {
			return nil, fault.New(fault.Failed, "%w", err)
		}
	}
	switch backend := os.Getenv("AWS_VAULT_BACKEND"); backend {
	case "":
		return []vault.Foreign{service, files}, nil
	case "secret-service":
		return []vault.Foreign{service}, nil
	case "file":
		return []vault.Foreign{files}, nil
	default:
		return nil, fault.New(fault.Failed, "the keys in aws-vault's keyring of the kind %q cannot be read; "+
			"aws-vault itself can pass them on: aws-vault exec NAME --no-session -- broker add NAME --from-env", backend).
			WithHint("broker add --help")
	}
}
