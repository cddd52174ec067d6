package profiles

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
)

// The required form of each value. Patterns and bounds are AWS's:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
var (
	roleARN     = lazyregexp.New(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/([!-~]*/)?[A-Za-z0-9_+=,.@-]+$`)
	deviceARN   = lazyregexp.New(`^arn:aws[a-z-]*:iam::[0-9]{12}:mfa/[!-~]+$`)
	deviceID    = lazyregexp.New(`^[A-Za-z0-9_+=/:,.@-]+$`)
	sessionName = lazyregexp.New(`^[A-Za-z0-9_+=,.@-]+$`)
	externalID  = lazyregexp.New(`^[A-Za-z0-9_+=,.@:/-]+$`)
	regionName  = lazyregexp.New(`^[a-z0-9-]+$`)
	accessKeyID = lazyregexp.New(`^[A-Z0-9]+$`)
	otherKeyID  = lazyregexp.New(`^[0-9A-Za-z_.@=+-]+$`) // for an STS other than AWS's
	// otherRoleARN is for an STS other than AWS's: the account is empty, or the name of a tenant.
	otherRoleARN = lazyregexp.New(`^arn:aws[a-z-]*:iam::[0-9A-Za-z_.-]*:role/([!-~]*/)?[A-Za-z0-9_+=,.@-]+$`)
)

// A check returns what is wrong with a value, without quoting it: a secret may have been pasted into the wrong
// line.
type check func(string) error

// matches checks the bounds separately from the pattern, since a counted repetition costs a regular expression one
// state for each count.
func matches(re *lazyregexp.Regexp, least, most int, want string) check {
	return func(s string) error {
		if len(s) >= least && len(s) <= most && re.MatchString(s) {
			return nil
		}
		return errors.New("is not " + want)
	}
}

func oneOf(words ...string) check {
	return func(s string) error {
		if slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(s, w) }) {
			return nil
		}
		return errors.New("is not " + strings.Join(words, " or "))
	}
}

var (
	checkRoleARN      = matches(roleARN, 20, 2048, "arn:aws:iam::ACCOUNT:role/NAME")
	checkSessionName  = matches(sessionName, 2, 64, "2 to 64 letters, digits and characters of _+=,.@-")
	checkExternalID   = matches(externalID, 2, 1224, "2 to 1224 letters, digits and characters of _+=,.@:/-")
	checkRegion       = matches(regionName, 1, 32, "the name of a region")
	checkAccessKeyID  = matches(accessKeyID, 16, 128, "an access key id")
	checkOtherKeyID   = matches(otherKeyID, 3, 128, "an access key id")
	checkOtherRoleARN = matches(otherRoleARN, 15, 2048, "arn:aws:iam::ACCOUNT:role/NAME, with or without an account")
	checkBool         = oneOf("true", "false")
	checkSTSRegional  = oneOf("legacy", "regional")
)

// checkMFASerial accepts devices that give codes of six digits. A security key or passkey gives none.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_fido.html
func checkMFASerial(s string) error {
	form := deviceID
	if strings.HasPrefix(s, "arn:") && strings.Contains(s, ":u2f/") {
		return errors.New("belongs to a security key or passkey, which gives no codes; STS accepts only codes")
	}
	if strings.HasPrefix(s, "arn:") {
		form = deviceARN
	}
	if len(s) >= 9 && len(s) <= 256 && form.MatchString(s) {
		return nil
	}
	return errors.New("is neither arn:aws:iam::ACCOUNT:mfa/NAME nor the number of a device")
}

func checkDuration(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 900 || n > 43200 {
		return errors.New("is not a whole number of seconds from 900 to 43200")
	}
	return nil
}

// checkCommand accepts a command whose program is an absolute path or a name to search on the PATH.
func checkCommand(s string) error {
	words := SplitCommand(s)
	if len(words) == 0 {
		return errors.New("is not a command")
	}
	if strings.Contains(words[0], "/") && !path.IsAbs(words[0]) {
		return errors.New("names a program by a path that is not absolute")
	}
	return nil
}

// checkEndpoint accepts https to any host, but http only to a loopback address, without asking a resolver. A
// session key must not travel in plain text.
func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("is not a plain URL such as https://HOST")
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if u.Hostname() == "localhost" {
			return nil
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.Unmap().IsLoopback() {
			return nil
		}
		return errors.New("uses plain http, which is accepted only on a loopback address")
	}
	return errors.New("is not an https URL")
}

func checkHomePath(s string) error {
	if filepath.IsAbs(s) || strings.HasPrefix(s, "~/") {
		return nil
	}
	return errors.New("is neither an absolute path nor one that starts with ~/")
}

// ExpandHome replaces ~ by the home directory in a path such as ~/ca.pem.
func ExpandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}

// A reading takes values out of views. It records each value for `explain`, and the first error.
type reading struct {
	values   []Value
	claims   []Value // values that take effect only once they are trusted
	limits   []Value // as in Trust
	warnings []Warning
	err      error
}

// take returns a value, or "" if the view has none.
func (r *reading) take(v view, key string, check check) string {
	s, b := v.find(key)
	if s == nil {
		return ""
	}
	return r.keep(b, key, s, check)
}

func (r *reading) keep(b *block, key string, s *setting, check check) string {
	return r.decided(b, key, s, Decide(key, b.from.place), check)
}

// decided is keep with the decision about the value.
func (r *reading) decided(b *block, key string, s *setting, verdict Decision, check check) string {
	o := Origin{b.origin.File, s.line}
	err := check(s.value)
	switch {
	case verdict == Unread:
		return ""
	case verdict == Ignored:
		text := fmt.Sprintf("%s has no effect here; to use it, run: %s", key,
			fault.Hintf("broker profiles link %s", b.name))
		r.warnings = append(r.warnings, Warning{o, text})
		return ""
	case verdict == Rejected:
		err = rejected(o, key, b)
	case err != nil:
		err = fault.New(fault.Config, "%s: %s %w", o, key, err)
	}
	if err != nil {
		if r.err == nil {
			r.err = err
		}
		return ""
	}
	v := Value{Profile: b.name, Key: key, Text: s.value, Origin: o}
	if !slices.Contains(r.values, v) {
		r.values = append(r.values, v)
	}
	if verdict == OnceTrusted && !slices.Contains(r.claims, v) {
		r.claims = append(r.claims, v)
	}
	if slices.Contains(limitKeys, key) && b.from.place != InRegistry && !slices.Contains(r.limits, v) {
		r.limits = append(r.limits, v)
	}
	return s.value
}

// endpoint reads the keys that determine the STS endpoint.
func (r *reading) endpoint(v view, services func(name string) *block) Endpoint {
	e := Endpoint{
		Region:   r.take(v, keyRegion, checkRegion),
		Legacy:   strings.EqualFold(r.take(v, keySTSRegional, checkSTSRegional), "legacy"),
		FIPS:     strings.EqualFold(r.take(v, keyFIPS, checkBool), "true"),
		CABundle: ExpandHome(r.take(v, keyCABundle, checkHomePath)),
	}
	if strings.EqualFold(r.take(v, keyIgnoreEndpoints, checkBool), "true") {
		return e
	}
	// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
	named := true // the registry alone names the endpoint
	if choice, def := v.find(keyServices); choice != nil {
		b := services(choice.value)
		if b == nil && r.err == nil {
			r.err = fault.New(fault.Config, "%s: there is no [services %.300s]", Origin{def.origin.File, choice.line},
				choice.value)
		}
		if sts := b.find(keySTS); sts != nil && len(sts.nested) > 0 {
			r.keep(def, keyServices, choice, checkName) // without an STS endpoint it redirects nothing
			for i := range sts.nested {
				e.URL = r.keep(b, keySTSEndpointURL, &sts.nested[i], checkEndpoint)
			}
			named = def.from.place == InRegistry && b.from.place == InRegistry
		}
	}
	if e.URL == "" {
		if _, b := v.find(keyEndpointURL); b != nil {
			e.URL, named = r.take(v, keyEndpointURL, checkEndpoint), b.from.place == InRegistry
		}
	}
	if e.URL != "" && named {
		e.Listener = AnyListener
	}
	return e
}

func seconds(s string) time.Duration {
	n, _ := strconv.Atoi(s) // checkDuration has accepted it
	return time.Duration(n) * time.Second
}

// rejected returns the error for a setting that its file must not have, with what to do.
func rejected(o Origin, key string, b *block) error {
	// With the variables set, trust would read the same file and return the same error.
	place, hint := "put it into ~/.aws/config", fault.Hintf(
		"env -u AWS_CONFIG_FILE -u AWS_SHARED_CREDENTIALS_FILE broker profiles trust %s", b.name)
	if key == keyCABundle {
		place, hint = "put it into the settings", fault.Hintf("broker config set ca_bundle FILE")
	}
	return fault.New(fault.Config, "%s: %s has no effect in a file that %s; %s", o, key, b.from.why, place).
		WithHint("%s", cmp.Or(b.from.hint, hint))
}
