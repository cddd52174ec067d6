package foreign

import (
	"strconv"
	"strings"

	"broker/internal/fault"
)

// This file reads what Broker needs of the config.yaml of aws-sso-cli. It is not a reader of YAML: it knows block
// mappings of plain and quoted words, as docs/config.md of that tool shows them, and refuses what it does not know
// within SSOConfig.

// instance is one SSO instance.
type instance struct {
	name, startURL, region string
	line                   int
}

// settingsYAML is what such a file says.
type settingsYAML struct {
	all        []instance
	defaultSSO string
	via        []string // ACCOUNT/ROLE of the roles that are assumed from another role
}

// byDefault returns the instance of a command that names none, as GetSelectedSSOName of internal/sso/settings.go does.
func (s settingsYAML) byDefault() string {
	switch {
	case s.defaultSSO != "":
		return s.defaultSSO
	case len(s.all) == 1:
		return s.all[0].name
	}
	return "Default"
}

// readInstances reads a config.yaml. An empty one has no instance. The error is a fault.Config with the line.
func readInstances(file string, src []byte) (s settingsYAML, err error) {
	type level struct {
		indent int
		key    string
	}
	var stack []level
	number := 0
	for line := range strings.Lines(string(src)) {
		number++
		line = strings.TrimRight(line, "\r\n \t")
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		if text == "" || text[0] == '#' || text == "---" && number == 1 || text == "..." {
			continue
		}
		for len(stack) > 0 && stack[len(stack)-1].indent >= indent {
			stack = stack[:len(stack)-1]
		}
		inside := len(stack) > 0 && stack[0].key == "SSOConfig"
		bad := fault.New(fault.Config, "%s:%d: Broker does not read this form of YAML within SSOConfig; "+
			"write key: value, each in a line of its own", file, number).WithHint("vi +%d %s", number, file)
		key, value, ok := keyAndValue(text)
		if !ok || strings.HasPrefix(text, "- ") || strings.HasPrefix(text, "\t") {
			if inside && len(stack) < 3 || strings.HasPrefix(text, "SSOConfig:") {
				return s, bad
			}
			continue // a list of tags, for example
		}
		stack = append(stack, level{indent, key})
		switch at := len(stack); {
		case at == 1 && key == "DefaultSSO":
			s.defaultSSO = value
		case at == 1 && key == "SSOConfig" && value != "":
			return s, bad
		case stack[0].key != "SSOConfig":
		case at == 2 && value != "":
			return s, bad
		case at == 2:
			s.all = append(s.all, instance{name: key, line: number})
		case at == 3 && key == "StartUrl":
			s.all[len(s.all)-1].startURL = value
		case at == 3 && key == "SSORegion":
			s.all[len(s.all)-1].region = value
		case at == 7 && key == "Via" && stack[2].key == "Accounts" && stack[4].key == "Roles" && value != "":
			account := stack[3].key
			for len(account) < 12 {
				account = "0" + account
			}
			s.via = append(s.via, account+"/"+stack[5].key)
		}
	}
	return s, nil
}

// keyAndValue splits `key: value # comment`. ok is false if the line has another form.
func keyAndValue(text string) (key, value string, ok bool) {
	if text[0] == '"' || text[0] == '\'' {
		end := strings.IndexByte(text[1:], text[0])
		if end < 0 || !strings.HasPrefix(text[end+2:], ":") {
			return "", "", false
		}
		key, text = text[1:end+1], text[end+3:]
	} else {
		if key, text, ok = strings.Cut(text, ":"); !ok || strings.ContainsAny(key, "{}[]&*!|>%@`\"'#") {
			return "", "", false
		}
	}
	if text != "" && text[0] != ' ' && text[0] != '\t' {
		return "", "", false
	}
	value = strings.TrimSpace(text)
	switch {
	case value == "" || value[0] == '#':
		return key, "", true
	case value[0] == '"':
		word, err := strconv.QuotedPrefix(value)
		if err != nil || !restIsComment(value[len(word):]) {
			return "", "", false
		}
		value, err = strconv.Unquote(word)
		return key, value, err == nil
	case value[0] == '\'':
		end := strings.IndexByte(value[1:], '\'')
		if end < 0 || !restIsComment(value[end+2:]) {
			return "", "", false
		}
		return key, value[1 : end+1], true
	case strings.IndexByte("{[&*!|>%@`", value[0]) >= 0:
		return "", "", false
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	return strings.TrimSpace(key), value, true
}

func restIsComment(rest string) bool {
	trimmed := strings.TrimLeft(rest, " \t")
	return trimmed == "" || trimmed[0] == '#' && len(trimmed) < len(rest)
}
