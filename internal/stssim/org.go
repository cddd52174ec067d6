package stssim

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/ini.v1"
)

// Organization is the state of the simulated world at start. Its text form is an INI file, documented at the top
// of demo.ini.
type Organization struct {
	Accounts []Account
	Users    []User
	Devices  []Device
	Roles    []Role
	Settings Settings

	IdentityCenter IdentityCenter // an empty StartURL means that there is no portal
	PermissionSets []PermissionSet
}

// Account is an AWS account.
type Account struct {
	Name      string // the name that other parts of the organization use for it
	ID        string // 12 digits
	Partition string // such as aws-cn; empty means aws

	Management bool   // this is the management account: only it may list the accounts
	Suspended  bool   // it is closed, but still listed
	OU         string // path of its organizational unit below the root, such as Workloads/Prod; empty is the root
}

// User is an IAM user.
type User struct {
	Account string // name of an Account
	Name    string
	Keys    []AccessKey // at most two, as in AWS
	Deny    []string    // "ACTION" or "ACTION RESOURCE" with * as a wildcard; everything else is allowed
	// DenyWithoutMFA is Deny for calls without MFA, as in AWS's example policy:
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_my-sec-creds-self-manage.html
	DenyWithoutMFA []string
	// Policies are identity policies, in JSON. With one, the user may only do what they allow.
	Policies []string
	Tags     []string // each KEY=VALUE, for the condition keys aws:PrincipalTag/KEY
}

// AccessKey is a long-lived access key.
type AccessKey struct {
	ID       string // 20 characters, starts with AKIA
	Secret   string // 40 characters
	Inactive bool
}

// Device is an MFA device of a user.
type Device struct {
	Account string // name of an Account
	User    string
	Serial  string // an ARN, or the serial number of a hardware device
	Seed    string // base32, as the AWS console shows it
}

// Role is an IAM role and its trust policy.
type Role struct {
	Account            string // name of an Account
	Name               string
	Path               string   // empty is /
	Trust              []string // ARNs: account root, user or role
	RequireMFA         bool     // trusts only callers with aws:MultiFactorAuthPresent
	ExternalID         string   // trusts only callers that send this ID; empty requires none
	MaxSessionDuration time.Duration
	Deny               []string // as for a User
	Policies           []string // as for a User
	// TrustPolicy is the whole trust policy, in JSON. It replaces Trust, RequireMFA, ExternalID and what is refused.
	TrustPolicy string

	WebIdentity string // the issuer of web identity tokens that it trusts, an https URL

	RefuseTags           bool // the trust policy does not allow sts:TagSession
	RefuseSourceIdentity bool // nor sts:SetSourceIdentity
}

// Settings are the options that an organization file may set; the methods of Sim change them later.
type Settings struct {
	SessionLifetime time.Duration // 0 means as requested
	NewKeyDelay     time.Duration // 0 means that new keys work at once
	NewKeyFlaps     bool
	AccountsPerPage int  // maximum for ListAccounts; 0 means AWS's
	LoginMFA        bool // credentials of `aws login` count as MFA
}

//go:embed demo.ini
var demoFile []byte

// Demo returns the organization of demo.ini: the accounts security, dev, stage, prod and mgmt, and the user paul
// with a key and an MFA device in security.
func Demo() *Organization {
	org, err := ParseOrganization(demoFile)
	if err != nil {
		panic("stssim: demo.ini: " + err.Error()) // the file is part of the program
	}
	return org
}

// LoadOrganization reads an organization file. The name "demo" means the built-in one.
func LoadOrganization(path string) (*Organization, error) {
	if path == "demo" {
		return Demo(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read organization: %w", err)
	}
	org, err := ParseOrganization(text)
	if err != nil {
		return nil, fmt.Errorf("read organization %s: %w", path, err)
	}
	return org, nil
}

// ParseOrganization parses an organization file. Unknown sections and keys are errors, because a misspelled rule
// would not be enforced.
func ParseOrganization(text []byte) (*Organization, error) {
	file, err := ini.LoadSources(ini.LoadOptions{AllowNonUniqueSections: true, IgnoreInlineComment: true}, text)
	if err != nil {
		return nil, err
	}
	org := new(Organization)
	for _, section := range file.Sections() {
		if section.Name() == ini.DefaultSection && len(section.Keys()) == 0 {
			continue
		}
		if err := org.read(section); err != nil {
			return nil, fmt.Errorf("section [%s]: %w", section.Name(), err)
		}
	}
	// Resolve names only after all sections are read, so that their order is free.
	for i, device := range org.Devices {
		if account := org.account(device.Account); account != nil && strings.HasPrefix(device.Serial, "mfa/") {
			org.Devices[i].Serial = account.arn("iam", device.Serial)
		}
	}
	return org, org.check()
}

// read reads one section of an organization file.
func (org *Organization) read(section *ini.Section) error {
	kind, name, _ := strings.Cut(section.Name(), " ")
	name = strings.TrimSpace(name)
	if name == "" && kind != "settings" && kind != "identity_center" {
		return fmt.Errorf("want [account NAME], [user NAME], [mfa NAME], [role NAME], [permission_set NAME], " +
			"[identity_center] or [settings]")
	}
	values := valuesOf(section)
	switch kind {
	case "account":
		org.Accounts = append(org.Accounts, Account{Name: name, ID: values.take("id"), Partition: values.take("partition"),
			Management: values.takeBool("management"), Suspended: values.takeBool("suspended"),
			OU: values.take("ou")})
	case "user":
		user := User{
			Account:        values.take("account"),
			Name:           name,
			Deny:           values.takeList("deny"),
			DenyWithoutMFA: values.takeList("deny_without_mfa"),
			Policies:       values.takePolicies("policies"),
			Tags:           values.takeList("tags"),
		}
		if key := (AccessKey{ID: values.take("access_key_id"), Secret: values.take("secret_access_key")}); key.ID != "" {
			user.Keys = []AccessKey{key}
		}
		org.Users = append(org.Users, user)
	case "mfa":
		device := Device{Account: values.take("account"), User: values.take("user"), Serial: values.take("serial"), Seed: values.take("seed")}
		if device.Serial == "" {
			device.Serial = "mfa/" + name
		}
		org.Devices = append(org.Devices, device)
	case "role":
		role := Role{
			Name:               name,
			Path:               values.take("path"),
			Trust:              values.takeList("trust"),
			RequireMFA:         values.takeBool("require_mfa"),
			ExternalID:         values.take("external_id"),
			MaxSessionDuration: values.takeDuration("max_session_duration"),
			Deny:               values.takeList("deny"),
			Policies:           values.takePolicies("policies"),
			TrustPolicy:        values.take("trust_policy"),
			WebIdentity:        values.take("web_identity"),

			RefuseTags:           values.takeBool("refuse_tags"),
			RefuseSourceIdentity: values.takeBool("refuse_source_identity"),
		}
		for _, account := range values.takeList("accounts") {
			role.Account = account
			org.Roles = append(org.Roles, role)
		}
	case "identity_center":
		if org.IdentityCenter.StartURL != "" {
			return fmt.Errorf("an organization has one identity_center")
		}
		org.IdentityCenter = IdentityCenter{
			StartURL: values.take("start_url"),
			Region:   values.take("region"),
			Users:    values.takeList("users"),
		}
	case "permission_set":
		org.PermissionSets = append(org.PermissionSets, PermissionSet{
			Name:            name,
			Accounts:        values.takeList("accounts"),
			Users:           values.takeList("users"),
			SessionDuration: values.takeDuration("session_duration"),
			Deny:            values.takeList("deny"),
			Policies:        values.takePolicies("policies"),
		})
	case "settings":
		org.Settings.SessionLifetime = values.takeDuration("session_lifetime")
		org.Settings.NewKeyDelay = values.takeDuration("new_key_delay")
		org.Settings.NewKeyFlaps = values.takeBool("new_key_flaps")
		org.Settings.AccountsPerPage = values.takeInt("accounts_per_page")
		org.Settings.LoginMFA = values.takeBool("login_mfa")
	default:
		return fmt.Errorf("no such kind of section")
	}
	return values.rest()
}

// values are the keys of a section that have not been read yet, and the first invalid value.
type values struct {
	left map[string]string
	err  error
}

func valuesOf(section *ini.Section) *values {
	return &values{left: section.KeysHash()}
}

func (v *values) take(key string) string {
	value := v.left[key]
	delete(v.left, key)
	return value
}

func (v *values) takeList(key string) []string {
	var list []string
	for item := range strings.SplitSeq(v.take(key), ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// takePolicies reads one JSON document, or an array of them.
func (v *values) takePolicies(key string) (texts []string) {
	value := v.take(key)
	if value == "" {
		return nil
	}
	var list oneOrMany[json.RawMessage]
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		v.fail(fmt.Errorf("%s: %w", key, err))
	}
	for _, text := range list {
		texts = append(texts, string(text))
	}
	return texts
}

func (v *values) takeBool(key string) bool {
	value := v.take(key)
	yes, err := strconv.ParseBool(value)
	if err != nil && value != "" {
		v.fail(fmt.Errorf("%s = %s: want true or false", key, value))
	}
	return yes
}

func (v *values) takeDuration(key string) time.Duration {
	value := v.take(key)
	d, err := time.ParseDuration(value)
	if value != "" && (err != nil || d < 0) {
		v.fail(fmt.Errorf("%s = %s: want a time such as 30s or 12h", key, value))
	}
	return d
}

func (v *values) takeInt(key string) int {
	value := v.take(key)
	n, err := strconv.Atoi(value)
	if value != "" && (err != nil || n < 1) {
		v.fail(fmt.Errorf("%s = %s: want a number of at least 1", key, value))
	}
	return n
}

func (v *values) fail(err error) {
	if v.err == nil {
		v.err = err
	}
}

// rest returns the first error: an invalid value, or a key that was not read.
func (v *values) rest() error {
	for key := range v.left {
		v.fail(fmt.Errorf("no such key: %s", key))
	}
	return v.err
}

var (
	accountIDs   = regexp.MustCompile(`^\d{12}$`)
	partitions   = regexp.MustCompile(`^(aws(-[a-z]+)*)?$`)
	keyIDs       = regexp.MustCompile(`^AKIA[A-Z0-9]{16}$`)
	principalIDs = regexp.MustCompile(`^arn:aws(-[a-z]+)*:iam::\d{12}:(root|(user|role)/.+)$`)
)

// check rejects an organization that is impossible in AWS.
func (org *Organization) check() error {
	seen := make(unique)
	for _, account := range org.Accounts {
		if err := account.check(seen); err != nil {
			return fmt.Errorf("account %s: %w", account.Name, err)
		}
		if account.Management {
			if err := seen.add("management account"); err != nil {
				return err
			}
		}
	}
	for _, user := range org.Users {
		if err := org.checkUser(user, seen); err != nil {
			return fmt.Errorf("user %s: %w", user.Name, err)
		}
	}
	for _, device := range org.Devices {
		if err := org.checkDevice(device, seen); err != nil {
			return fmt.Errorf("mfa device %s: %w", device.Serial, err)
		}
	}
	for _, role := range org.Roles {
		if err := org.checkRole(role, seen); err != nil {
			return fmt.Errorf("role %s: %w", role.Name, err)
		}
	}
	return org.checkCenter(seen)
}

func (a *Account) check(seen unique) error {
	switch {
	case !accountIDs.MatchString(a.ID):
		return fmt.Errorf("id %q is not 12 digits", a.ID)
	case !partitions.MatchString(a.Partition):
		return fmt.Errorf("no such partition: %s", a.Partition)
	}
	return seen.add("account "+a.Name, "id "+a.ID)
}

func (org *Organization) checkUser(user User, seen unique) error {
	switch {
	case org.account(user.Account) == nil:
		return fmt.Errorf("no such account: %q", user.Account)
	case len(user.Keys) > keysPerUser:
		return fmt.Errorf("more than %d access keys", keysPerUser)
	}
	for _, key := range user.Keys {
		if !keyIDs.MatchString(key.ID) || len(key.Secret) != 40 {
			return fmt.Errorf("an access key id is AKIA and 16 capitals or digits, and its secret has 40 characters")
		}
		if err := seen.add("access key " + key.ID); err != nil {
			return err
		}
	}
	if _, err := parsePolicies(user.Policies, false); err != nil {
		return err
	}
	return seen.add("user " + user.Account + "/" + user.Name)
}

func (org *Organization) checkDevice(device Device, seen unique) error {
	if org.User(device.Account, device.User) == nil {
		return fmt.Errorf("no such user: %q in account %q", device.User, device.Account)
	}
	if _, err := decodeSeed(device.Seed); err != nil {
		return err
	}
	return seen.add("serial " + device.Serial)
}

func (org *Organization) checkRole(role Role, seen unique) error {
	if org.account(role.Account) == nil {
		return fmt.Errorf("no such account: %q", role.Account)
	}
	if d := role.MaxSessionDuration; d != 0 && (d < time.Hour || d > 12*time.Hour) {
		return fmt.Errorf("max_session_duration %s is not between 1h and 12h", d)
	}
	if path := role.Path; path != "" && (path[0] != '/' || path[len(path)-1] != '/') {
		return fmt.Errorf("path %s does not begin and end with a slash", path)
	}
	for _, arn := range role.Trust {
		if !principalIDs.MatchString(arn) {
			return fmt.Errorf("not the ARN of an account's root, a user or a role: %s", arn)
		}
	}
	if _, err := parsePolicies(role.Policies, false); err != nil {
		return err
	}
	if role.TrustPolicy != "" {
		if _, err := parsePolicies([]string{role.TrustPolicy}, true); err != nil {
			return err
		}
	}
	if role.WebIdentity != "" && len(role.Trust) > 0 {
		return fmt.Errorf("a role has trust or web_identity, not both")
	}
	if role.WebIdentity != "" && !strings.HasPrefix(role.WebIdentity, "https://") {
		return fmt.Errorf("web_identity is not an https URL: %s", role.WebIdentity)
	}
	// In IAM, role names are unique in an account whatever their paths are.
	return seen.add("role " + role.Account + "/" + role.Name)
}

// unique records names that must occur only once.
type unique map[string]bool

func (u unique) add(names ...string) error {
	for _, name := range names {
		if u[name] {
			return fmt.Errorf("%s is defined twice", name)
		}
		u[name] = true
	}
	return nil
}

// User finds a user by the names of its account and of the user, or returns nil.
func (org *Organization) User(account, name string) *User {
	for i := range org.Users {
		if org.Users[i].Account == account && org.Users[i].Name == name {
			return &org.Users[i]
		}
	}
	return nil
}

// Device finds an MFA device by its serial, or returns nil.
func (org *Organization) Device(serial string) *Device {
	for i := range org.Devices {
		if org.Devices[i].Serial == serial {
			return &org.Devices[i]
		}
	}
	return nil
}

func (org *Organization) account(name string) *Account {
	for i := range org.Accounts {
		if org.Accounts[i].Name == name {
			return &org.Accounts[i]
		}
	}
	return nil
}

// arn returns the ARN of a resource in the account.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
func (a *Account) arn(api, resource string) string {
	partition := a.Partition
	if partition == "" {
		partition = "aws"
	}
	return "arn:" + partition + ":" + api + "::" + a.ID + ":" + resource
}
