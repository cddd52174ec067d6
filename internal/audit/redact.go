package audit

import (
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/lazyregexp"
	"broker/internal/peer"
	"broker/internal/secret"
)

// hidden replaces a secret.
const hidden = "***"

// The first group of a pattern is a name. assignPattern and optionPattern find only names that secretName may accept.
var (
	wholePattern = lazyregexp.New(`^(-{0,2}[A-Za-z_][A-Za-z0-9_.-]*)(\s*[=:]\s*)(?s:(.+))$`)
	// Within a longer text, such as a script or JSON.
	assignPattern = lazyregexp.New(`([A-Za-z0-9_.-]*(?i:secret|token|pass|signature|credential|key|pwd|code|authorization|cookie|otp)[A-Za-z0-9_.-]*)(\\*["']?\s*[=:]\s*)(\\+"[^"]*"?|"(?:\\.|[^"\\])*"?|'[^']*'?|[^\s,;&|"'}]+)`)
	optionPattern = lazyregexp.New(`(?:^|\s)-{1,2}([A-Za-z0-9_.-]*(?i:secret|token|pass|signature|credential|key|pwd|code|authorization|cookie|otp)[A-Za-z0-9_.-]*)(\s+)("(?:\\.|[^"\\])*"?|'[^']*'?|\S+)`)
	bearerPattern = lazyregexp.New(`(?i)(\bbearer|\bbasic|authorization:\s*token)(\s+)([^\s"']+)`)
	urlPattern    = lazyregexp.New(`(://)([^\s/:@]*:)?([^\s/"']*[^\s/"'@])@`)
	keyIDPattern  = lazyregexp.New(`\bAKIA[A-Z0-9]{12,}\b`)
)

// Redact returns the arguments of a process without what looks like a secret: the values of options and variables
// with such names, long-lived access key ids but for their last four characters, secret keys, session tokens, and
// the passwords of URLs. It cuts long arguments, and does not change args.
func Redact(args []string) []string {
	out := make([]string, len(args))
	hide := false
	var options []string
	if len(args) > 0 {
		options = secretOptions[peer.ToolOf(args)]
	}
	for i, arg := range args {
		if more := secretOptions[filepath.Base(arg)]; more != nil && !hide { // behind broker exec, sudo or env
			options = more
		}
		option := slices.IndexFunc(options, func(o string) bool { return strings.HasPrefix(arg, o) })
		switch {
		case option >= 0 && arg == options[option]:
			out[i], hide = arg, true
		case hide:
			out[i], hide = hidden, false
		case option >= 0 && !strings.HasPrefix(arg, "--"):
			out[i] = options[option] + hidden
		case option >= 0 && strings.HasPrefix(arg, options[option]+"="):
			out[i] = options[option] + "=" + hidden
		default:
			script := i > 0 && args[i-1] == "-c"
			out[i] = redactOne(bound(arg), script)
			hide = strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "=:") && secretName(arg)
		}
	}
	return out
}

// secretOptions are the options of programs whose values are secrets, though their names do not say so.
var secretOptions = map[string][]string{
	"curl": {"-u", "--user"}, "wget": {"--auth"}, "http": {"-a", "--auth"}, "sshpass": {"-p"}, "mysql": {"-p"},
	"mysqldump": {"-p"}, "redis-cli": {"-a"}, "oathtool": {"-b", "--base32"}, "openssl": {"-passin", "-passout"},
	"docker": {"-p"}, "podman": {"-p"}, "aws": {"--value", "--secret-string", "--cli-input-json"},
}

// mostRedacted is how many bytes of an argument are looked at. The log shows fewer.
const mostRedacted = 1 << 10

// bound cuts a long argument. It does not leave the first part of a secret, which would not be recognized.
func bound(arg string) string {
	if len(arg) <= mostRedacted {
		return arg
	}
	end := mostRedacted
	for end > 0 && isBase64(arg[end-1]) {
		end--
	}
	return arg[:end] + "…"
}

// redactOne returns one argument without secrets. The value of an argument NAME=VALUE may have blanks, unless it is
// a script.
func redactOne(s string, script bool) string {
	if strings.ContainsAny(s, " \t\n") && hasFold(s, "bearer", "basic", "authorization") {
		s = bearerPattern.ReplaceAllString(s, "$1$2"+hidden)
	}
	named := namesSecret(s) // most arguments do not, and need no pattern
	if named {
		if m := wholePattern.FindStringSubmatch(s); m != nil && !script && secretName(m[1]) {
			return m[1] + m[2] + hidden
		}
		s = replaceValues(assignPattern, s)
		if strings.ContainsAny(s, " \t\n") {
			s = replaceValues(optionPattern, s)
		}
	}
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		s = urlPattern.ReplaceAllString(s, "$1$2"+hidden+"@")
	}
	if strings.Contains(s, "AKIA") {
		s = keyIDPattern.ReplaceAllStringFunc(s, secret.Tail)
	}
	return hideRuns(s)
}

// namesSecret reports whether a text may have a name that secretName accepts.
func namesSecret(s string) bool {
	return hasFold(s, "secret", "token", "pass", "signature", "credential", "key", "pwd", "code", "authorization", "cookie",
		"otp")
}

// hasFold reports whether a text has one of these words, in any case.
func hasFold(s string, words ...string) bool {
	s = strings.ToLower(s)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(s, word) })
}

// hideRuns hides each run of letters, digits and signs that looks like a secret key or a session token.
func hideRuns(s string) string {
	for from := 0; len(s)-from >= secretKey; {
		end := from
		for end < len(s) && isBase64(s[end]) {
			end++
		}
		if name := strings.IndexByte(strings.TrimRight(s[from:end], "="), '='); name >= 0 { // NAME=VALUE
			from += name + 1
		}
		if secretRun(s[from:end]) {
			s = s[:from] + hidden + s[end:]
			end = from + len(hidden)
		}
		from = end + 1
	}
	return s
}

func isBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/+_=-", c) >= 0
}

// replaceValues hides the third group of each match whose first group names a secret.
func replaceValues(pattern *lazyregexp.Regexp, s string) string {
	return pattern.ReplaceAllStringFunc(s, func(match string) string {
		if m := pattern.FindStringSubmatch(match); m != nil && secretName(m[1]) {
			return strings.TrimSuffix(match, m[3]) + hidden
		}
		return match
	})
}

// notSecret are endings of names whose values say where a secret is, or which one it is.
var notSecret = []string{"file", "path", "dir", "id", "ids", "arn", "arns", "name", "names", "stdin", "fd", "type"}

// secretName reports whether a name of an option, variable or key looks like that of a secret.
func secretName(name string) bool {
	name = strings.ToLower(strings.TrimLeft(name, "-"))
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	if len(words) == 0 || words[0] == "no" {
		return false
	}
	for _, end := range notSecret {
		if words[len(words)-1] == end {
			return false
		}
	}
	for _, part := range []string{"secret", "token", "password", "passwd", "passphrase", "credential", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	switch name {
	case "code", "authorization", "cookie", "otp", "totp":
		return true
	}
	for i, word := range words {
		switch {
		case strings.HasSuffix(word, "key"), word == "pass", i > 0 && word == "pwd":
			return true
		case word == "code" && i > 0 && words[i-1] == "mfa":
			return true
		}
	}
	return false
}

// secretKey is the length of a secret key of AWS, and sessionToken less than that of any session token.
const secretKey, sessionToken = 40, 100

// secretRun reports whether a run of letters, digits and signs looks like the secret key of AWS, which has 40
// characters, or like a session token. Hashes and paths do not.
func secretRun(run string) bool {
	if trimmed := strings.TrimRight(run, "="); len(trimmed) != secretKey && len(run) < sessionToken ||
		len(run) >= sessionToken && strings.Count(run, "/")*8 > len(run) {
		return false
	}
	var lower, upper, digit bool
	for _, r := range run {
		lower = lower || r >= 'a' && r <= 'z'
		upper = upper || r >= 'A' && r <= 'Z'
		digit = digit || r >= '0' && r <= '9'
	}
	return lower && upper && digit
}
