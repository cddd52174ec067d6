package profiles

import (
	"bytes"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// secretWords are in the names of keys whose values nobody should see.
var secretWords = []string{"secret", "token", "password", "passwd", "passphrase", "access_key", "assertion"}

func looksSecret(text []byte) bool {
	lower := bytes.ToLower(text)
	return slices.ContainsFunc(secretWords, func(w string) bool { return bytes.Contains(lower, []byte(w)) })
}

// Redact returns a document as it can be shown: without the values of keys that may be secret
// (in the credentials file those are all that the broker does not know), without the
// arguments of other helpers, comments that look like such keys, and lines that cannot be read. A
// document that is not text is nothing.
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
	between := func(to int) { // lines that are no entry
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
	return true // nobody can tell what it is
}

func hiddenEntry(doc Document, src []byte, e *entry) bool {
	key := strings.ToLower(string(e.key))
	_, known := awsKeys[key]
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
		return false // access_key_id is no secret, and no secret stands there
	}
	return looksSecret(src[e.start:e.end])
}

// HoldsSecret reports whether a config file seems to hold a key or a password, so
// that no copy of it should be made.
func HoldsSecret(config []byte) bool {
	for line := range linesOf(config) {
		text := bytes.TrimLeft(line, " \t#;")
		i := bytes.IndexAny(text, "=:")
		if i < 0 {
			continue
		}
		key := bytes.ToLower(bytes.TrimSpace(text[:i]))
		if _, known := awsKeys[string(key)]; looksSecret(key) && (!known || slices.Contains([]string{keySecretKey, keySessionToken}, string(key))) {
			return true
		}
	}
	return false
}
