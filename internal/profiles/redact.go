package profiles

import (
	"bytes"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// secretWords occur in the names of keys whose values must not be shown.
var secretWords = []string{"secret", "token", "password", "passwd", "passphrase", "access_key", "assertion"}

func looksSecret(text []byte) bool {
	lower := bytes.ToLower(text)
	return slices.ContainsFunc(secretWords, func(w string) bool { return bytes.Contains(lower, []byte(w)) })
}

// Redact returns a document in a form that may be shown. It removes the values of keys that may be secret (in the
// credentials file, of all keys that Broker does not know), the arguments of other programs' helpers, comments
// that look like such keys, and lines that cannot be read. It returns nothing for a document that is not text.
func Redact(doc Document, src []byte) []byte {
	d, bad := scan(src, doc == CredentialsDocument)
	if bad != nil {
		return nil
	}
	var cuts []cut
	at := 0
	if bytes.HasPrefix(src, byteOrderMark) {
		at = len(byteOrderMark)
	}
	between := func(to int) { // the lines between entries
		for at < to {
			end := at + len(firstLine(src[at:to]))
			if text := bytes.TrimSpace(src[at:end]); hiddenLine(doc, text) {
				cuts = append(cuts, cut{at, end - len(eolOf(src[at:end])), []byte("# " + redacted)})
			}
			at = end
		}
	}
	for i := range d.sections {
		s := &d.sections[i]
		between(s.start)
		at = s.end
		for j := range s.entries {
			e := &s.entries[j]
			between(e.start)
			if hiddenEntry(doc, src, e) {
				cuts = append(cuts, cut{e.valueAt, e.end - len(eolOf(src[e.start:e.end])), []byte(redacted)})
			}
			at = e.end
		}
	}
	between(len(src))
	return apply(src, cuts)
}

func hiddenLine(doc Document, text []byte) bool {
	switch {
	case len(text) == 0:
		return false
	case isComment(text):
		return looksSecret(text) || doc == CredentialsDocument && bytes.ContainsAny(text, "=:")
	}
	return true // its meaning is unknown
}

func hiddenEntry(doc Document, src []byte, e *entry) bool {
	key := strings.ToLower(string(e.key))
	known := slices.Contains(awsKeys, key)
	switch {
	case slices.Contains([]string{keyAccessKeyID, keySecretKey, keySessionToken}, key):
		return true
	case key == keyCredentialProcess:
		return !isOurs(string(e.value))
	case known || key == keyOutput:
		return looksSecret(src[e.valTo:e.end]) || e.multiline && looksSecret(src[e.start:e.end])
	case doc == CredentialsDocument:
		return true
	case doc == RegistryDocument:
		return false // access_key_id is not secret, and its value is not either
	}
	return looksSecret(src[e.start:e.end])
}

// HoldsSecret reports whether a config file seems to contain a key or a password. Broker makes no copy of such a
// file.
func HoldsSecret(config []byte) bool {
	for line := range linesOf(config) {
		text := bytes.TrimLeft(line, " \t#;")
		i := bytes.IndexAny(text, "=:")
		if i < 0 {
			continue
		}
		key := bytes.ToLower(bytes.TrimSpace(text[:i]))
		if looksSecret(key) && (!slices.Contains(awsKeys, string(key)) ||
			slices.Contains([]string{keySecretKey, keySessionToken}, string(key))) {
			return true
		}
	}
	return false
}
