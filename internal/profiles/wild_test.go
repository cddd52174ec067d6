//go:build unix

package profiles

import (
	"math/rand/v2"
	"strings"
)

// A wild file is one that no sane person writes, but that botocore often accepts: every kind of header, blank,
// bracket, quote, indentation and line end, in any order.

var wildHeaders = []string{
	"[default]", "[profile default]", "[profile NAME]", "[profile NAME]", "[profile NAME]", "[profile NAME]", "[profile NAME]",
	"[profile \"NAME\"]", "[profile 'NAME']", "[profile  NAME]", "[profile\tNAME]", "[ profile NAME ]", "[profile NAME ]",
	"[profiles NAME]", "[profile-x NAME]", "[profileNAME]", "[profile]", "[profile NAME NAME]", "[profile [NAME]-x]",
	"[profile NAME] # note", "[profile NAME] ; see [1]", "[profile NAME]]", "[profile NAME] = x", "[\"profile\" NAME]",
	"[profile N\\AME]", "[profile \"NA'ME\"]", "[profile 'NA\"ME']", "[profile NAM'E]", "[profile \"NAME]", "[profile NAME\\]",
	"[profile NAME=x]", "[profile NAME#x]", "[profile #NAME]", "[profile ;]", "[profile NAME: x]", "[Profile NAME]",
	"[default ]", "[ default]", "[DEFAULT]", "[NAME]", "[services NAME]", "[sso-session NAME]", "[plugins]", "[profile \"\"]",
	"[[NAME]]", "[profile NAME", "[profile NAME = x", "[]", "[ ]", "[profile \u00a0NAME]", "[profile größe]", "[profile \"\u2003\"]",
}

var wildKeys = []string{keyRegion, keyRegion, "Region", keyRoleARN, keySourceProfile, keyMFASerial, keyExternalID, keyDuration,
	keyCredentialProcess, keyOutput, "x_unknown", "s3", "größe", "a b", "[x", "x]", keySSOSession, keySSORegion, keyAccessKeyID,
	keySSOAccountID, keyLoginSession, keyWebIdentity}

var wildValues = []string{"", "eu-west-1", "x", "x", "a = b", "a: b", "# c", "x # c", "x ;c", "x;c", "x\t# c", "\"x\"", "'x'",
	"arn:aws:iam::444455556666:role/dev", "[profile y]", "größe", "x  y", "\\", "\u00a0x", "x\x1c", "\x1fx"}

// wildFile returns one such file.
func (a *author) wildFile(credentials bool) string {
	var b strings.Builder
	nl := a.pick("\n", "\n", "\n", "\r\n", "\r")
	indents := []string{"", "", "", "", "", " ", "  ", "\t", "\u00a0", "    "}
	name := func() string { return a.pick("a", "b", "c", "d", "dev") }
	line := func(text string) {
		if a.one(150) {
			nl = a.pick("\n", "\r\n", "\r")
		}
		b.WriteString(text + a.pick("", "", "", "", " ", "\t", "\x1d") + nl)
	}
	if a.one(60) {
		b.WriteString(string(byteOrderMark))
	}
	for range 1 + a.IntN(5) {
		for a.one(4) {
			line(a.pick("", " ", "# c", "  ; c", "\x1e"))
		}
		header := strings.ReplaceAll(wildHeaders[a.IntN(len(wildHeaders))], "NAME", name())
		if credentials && a.one(2) {
			header = a.pick("["+name()+"]", "["+name()+"-x]", "[ "+name()+" ]", "[\""+name()+"\"]", "[profile "+name()+"]")
		}
		line(a.pick("", "", "", "", "", "", " ", "\t", "  ") + header)
		base := indents[a.IntN(len(indents))]
		used := map[string]bool{}
		if a.one(2) {
			line(base + keyRoleARN + " = arn:aws:iam::444455556666:role/dev")
			line(base + keySourceProfile + a.pick(" = ", "=", ": ") + a.pick("security", "security", "security", name()))
			used[keyRoleARN], used[keySourceProfile] = true, true
		}
		for range a.IntN(5) {
			key := wildKeys[a.IntN(len(wildKeys))]
			if used[strings.ToLower(key)] && !a.one(20) {
				continue
			}
			used[strings.ToLower(key)] = true
			indent := base
			if a.one(6) {
				indent = indents[a.IntN(len(indents))]
			}
			value := wildValues[a.IntN(len(wildValues))]
			line(indent + key + a.pick(" = ", " = ", " = ", "=", "=", ": ", ":", "\t=", " \u00a0= ") + value)
			for a.one(5) {
				line(a.pick("", " ", "# c", base+"  # c", "\x1c"))
			}
			for a.one(5) {
				line(base + a.pick("  ", "\t", " ") + a.pick("addressing_style = path", "endpoint_url=http://localhost:1", "a:b=c", "more",
					"[profile e]", "role_arn = x", "a = b # c", "x\vy = z"))
				for a.one(4) {
					line(a.pick("", " ", "# c"))
				}
			}
		}
		if a.one(80) {
			line(a.pick("no key at all", "= no key", "before = any"))
		}
	}
	text := b.String()
	if a.one(8) {
		text = strings.TrimRight(text, "\r\n")
	}
	return text
}

// wild returns a config and a credentials file.
func wild(seed uint64) Documents {
	a := &author{Rand: rand.New(rand.NewPCG(seed, 2000))}
	docs := documents(linkRegistry, a.wildFile(false), "")
	if a.one(2) {
		docs[CredentialsDocument] = []byte(a.wildFile(true))
	}
	return docs
}
