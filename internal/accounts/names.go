package accounts

import (
	"cmp"
	"slices"
	"strings"

	"broker/internal/fault"
)

// DefaultTemplate is the default template for the names of profiles.
const DefaultTemplate = "{product}_{env}_{user}"

// OrganizationRole is the role that AWS Organizations creates in new accounts; the management account has none.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_accounts_access.html
const OrganizationRole = "OrganizationAccountAccessRole"

// Naming says how to name the profiles of a map, and for which roles.
type Naming struct {
	Template string   // empty means the map's, else DefaultTemplate
	User     string   // for {user}
	Roles    []string // override the roles in the map; may be empty
}

// Profile is one role of an account, with the name of its profile.
type Profile struct {
	Name       string
	Account    string
	AccountID  string
	RoleARN    string
	Region     string
	ExternalID string
	Duration   string
	MFASerial  string
}

// Role returns the name of the role without its path.
func (p Profile) Role() string { return p.RoleARN[strings.LastIndexByte(p.RoleARN, '/')+1:] }

// maxName limits the name of a profile, in bytes.
const maxName = 128

// Profiles returns the profiles of a map, in its order.
//
// If an account has several roles and the template has no {role}, the first role gets the plain name, and each
// further one has its role name appended: product_dev_paul, product_dev_paul_read-only. So adding a role changes
// no name in use.
//
// Errors: fault.Usage if the template has unknown placeholders, needs a word that is not set, or gives two roles
// the same name; fault.Config for an account without a role.
func (m Map) Profiles(n Naming) ([]Profile, error) {
	text := n.Template
	if text == "" {
		text = m.Template
	}
	if text == "" {
		text = DefaultTemplate
	}
	t, err := parseTemplate(text, cmp.Or(m.Template, DefaultTemplate))
	if err != nil {
		return nil, err
	}
	var all []Profile
	first := map[string]Profile{}
	for _, a := range m.Accounts {
		roles := a.Roles
		if len(n.Roles) > 0 {
			roles = n.Roles
		}
		if len(roles) == 0 {
			return nil, fault.New(fault.Config, "%s: account %q names no roles", a.origin, a.Name).
				WithHint("broker profiles generate --role ROLE")
		}
		for i, role := range roles {
			arn, err := a.RoleARN(role)
			if err != nil {
				return nil, fault.New(fault.Usage, "%s: account %q: roles %w", a.origin, a.Name, err)
			}
			p := Profile{
				Account:    a.Name,
				AccountID:  a.ID,
				RoleARN:    arn,
				Region:     a.Region,
				ExternalID: a.ExternalID,
				Duration:   a.Duration,
				MFASerial:  a.MFASerial,
			}
			words := map[string]string{
				"product": m.Product, "env": a.Environment, "account": a.Name, "id": a.ID, "role": p.Role(), "user": n.User, "region": a.Region,
			}
			if p.Name, err = t.fill(words); err != nil {
				return nil, err
			}
			if i > 0 && !t.has("role") {
				p.Name += "_" + p.Role()
			}
			if len(p.Name) > maxName {
				return nil, fault.New(fault.Usage, "the template makes the name for role %s of account %q longer than %d characters", p.Role(), a.Name, maxName)
			}
			if other, taken := first[p.Name]; taken {
				missing := "{account}"
				switch {
				case other.AccountID == p.AccountID:
					missing = "{role}"
				case t.has("account"):
					missing = "{id}"
				}
				return nil, fault.New(fault.Usage, "%s of account %q and %s of account %q would both be called %s; a template with %s tells them apart",
					other.Role(), other.Account, p.Role(), p.Account, p.Name, missing).
					WithHint("broker profiles generate --template %s", text+"_"+missing)
			}
			first[p.Name] = p
			all = append(all, p)
		}
	}
	return all, nil
}

// template has text and placeholders alternately, beginning with text.
type template []string

var placeholders = []string{"product", "env", "account", "id", "role", "user", "region"}

// parseTemplate reads a template. The hint of an error has the example.
func parseTemplate(text, example string) (template, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("broker profiles generate --template %s", example)
	}
	if len(text) > maxName {
		return nil, bad("a template has at most %d characters", maxName)
	}
	var t template
	rest := text
	for {
		plain, after, found := strings.Cut(rest, "{")
		if plain != "" && !word.MatchString("x"+plain) {
			return nil, bad("a template consists of letters, digits, _.@+=,- and placeholders, unlike %.60q", text)
		}
		t = append(t, plain)
		if !found {
			break
		}
		name, after, found := strings.Cut(after, "}")
		if !found || !slices.Contains(placeholders, name) {
			return nil, bad("a template has the placeholders {%s}, unlike %.60q", strings.Join(placeholders, "} {"), text)
		}
		t = append(t, name)
		rest = after
	}
	if len(t) == 1 {
		return nil, bad("the template %.60q has no placeholder, so all profiles would have the same name", text)
	}
	if t[0] != "" && !word.MatchString(t[0]) {
		return nil, bad("a name begins with a letter or a digit, unlike %.60q", text)
	}
	return t, nil
}

func (t template) has(placeholder string) bool {
	for i := 1; i < len(t); i += 2 {
		if t[i] == placeholder {
			return true
		}
	}
	return false
}

func (t template) fill(words map[string]string) (string, error) {
	var b strings.Builder
	for i, part := range t {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		value := words[part]
		if value == "" {
			err := fault.New(fault.Usage, "the template needs {%s}, but account %q has no value for it", part, words["account"])
			switch part { // words that a flag sets
			case "product":
				return "", err.WithHint("broker profiles generate --product NAME")
			case "user":
				return "", err.WithHint("broker profiles generate --user NAME")
			}
			return "", err.WithHint("broker profiles generate --template '{account}_{role}'")
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// Word reports whether a text can be used for {user} or {product}.
func Word(text string) bool { return word.MatchString(text) }

// UserOf returns the last part of the ARN of an MFA device or IAM user, which in AWS is the user's name: for
// arn:aws:iam::111122223333:mfa/paul it returns paul. It returns "" for other texts.
func UserOf(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[2] != "iam" {
		return ""
	}
	name := f[5][strings.LastIndexByte(f[5], '/')+1:]
	if !strings.Contains(f[5], "/") || !Word(name) {
		return ""
	}
	return name
}
