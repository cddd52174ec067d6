package accounts

import (
	"strings"

	"broker/internal/fault"
)

// DefaultTemplate is how profiles are called by default.
const DefaultTemplate = "{product}_{env}_{user}"

// OrganizationRole is the role that AWS Organizations makes in the accounts that
// are created in it; the management account has none.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_accounts_access.html
const OrganizationRole = "OrganizationAccountAccessRole"

// Naming is how the profiles of a map are to be called, and for which roles.
type Naming struct {
	Template string   // empty is the map's, else DefaultTemplate
	User     string   // for {user}
	Roles    []string // instead of those that the map names; may be empty
}

// Profile is one role of an account under the name that it gets.
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

// Role is the name of the role without its path.
func (p Profile) Role() string { return p.RoleARN[strings.LastIndexByte(p.RoleARN, '/')+1:] }

// maxName bounds the name of a profile.
const maxName = 128

// Profiles are the profiles that a map comes to, in its order.
//
// Where an account has several roles and the template has no {role}, the first one
// gets the plain name, and each further one its own name behind it: product_dev_paul,
// product_dev_paul_read-only. So a role that is added changes no name that is in use.
//
// Errors: fault.Usage for a template that has unknown placeholders, needs a word that nobody said,
// or gives two roles one name; fault.Config for an account without a role.
func (m Map) Profiles(n Naming) ([]Profile, error) {
	text := n.Template
	if text == "" {
		text = m.Template
	}
	if text == "" {
		text = DefaultTemplate
	}
	t, err := parseTemplate(text)
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
			p := Profile{Account: a.Name, AccountID: a.ID, RoleARN: arn, Region: a.Region, ExternalID: a.ExternalID, Duration: a.Duration, MFASerial: a.MFASerial}
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
				return nil, fault.New(fault.Usage, "the template gives role %s of account %q a name of more than %d characters", p.Role(), a.Name, maxName)
			}
			if other, taken := first[p.Name]; taken {
				missing := "{account}"
				if other.AccountID == p.AccountID {
					missing = "{role}"
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

// template is text and placeholders in turn, a text first.
type template []string

var placeholders = []string{"product", "env", "account", "id", "role", "user", "region"}

func parseTemplate(text string) (template, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("broker profiles generate --template %s", DefaultTemplate)
	}
	if len(text) > maxName {
		return nil, bad("a template has at most %d characters", maxName)
	}
	var t template
	rest := text
	for {
		plain, after, found := strings.Cut(rest, "{")
		if plain != "" && !word.MatchString("x"+plain) {
			return nil, bad("a template has letters, digits, _.@+=,- and placeholders, unlike %.60q", text)
		}
		t = append(t, plain)
		if !found {
			break
		}
		name, after, found := strings.Cut(after, "}")
		if !found || !contains(placeholders, name) {
			return nil, bad("a template has the placeholders {%s}, unlike %.60q", strings.Join(placeholders, "} {"), text)
		}
		t = append(t, name)
		rest = after
	}
	if len(t) == 1 {
		return nil, bad("the template %.60q has no placeholder, so all profiles would have one name", text)
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

// flags are what says a word that a map does not.
var flags = map[string]fault.Hint{"product": "--product NAME", "user": "--user NAME"}

func (t template) fill(words map[string]string) (string, error) {
	var b strings.Builder
	for i, part := range t {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		value := words[part]
		if value == "" {
			err := fault.New(fault.Usage, "the template has {%s}, and account %q has none", part, words["account"])
			if flag := flags[part]; flag != "" {
				return "", err.WithHint("broker profiles generate %s", flag)
			}
			return "", err.WithHint("broker profiles generate --template '{account}_{role}'")
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// Word says whether a text can be a word of a name: of {user} or {product}.
func Word(text string) bool { return word.MatchString(text) }

// UserOf is the last part of the ARN of an MFA device or IAM user, which AWS
// makes the user's name: arn:aws:iam::111122223333:mfa/paul is paul's. It is empty where there is none.
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
