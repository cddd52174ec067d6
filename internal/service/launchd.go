package service

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Label is the name of the agent.
const Label = "local.broker.daemon"

// LaunchdPath returns the path of the agent's file, launchd.plist(5).
func LaunchdPath(home string) string {
	return filepath.Join(home, "Library/LaunchAgents", Label+".plist")
}

// Launchd returns the agent. It starts with the session, and again after a failure. It does not use launchd's
// sockets, because only a C library can receive them.
func Launchd(home string, d Daemon) ([]File, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	var env strings.Builder
	for _, kv := range d.Env {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&env, "\t\t<key>%s</key>\n\t\t<string>%s</string>\n", escaped(name), escaped(value))
	}
	return []File{{LaunchdPath(home), fmt.Sprintf(agent, Label, escaped(d.Program), env.String(), escaped(d.Log))}}, nil
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// LaunchdProgram returns the program that the agent starts; "" without an agent.
func LaunchdProgram(home string) string {
	text, err := read(LaunchdPath(home))
	if err != nil {
		return ""
	}
	words, err := stringsBehind([]byte(text), "ProgramArguments")
	if err != nil || len(words) == 0 {
		return ""
	}
	return words[0]
}

// stringsBehind returns the strings that follow a key, up to the next key.
func stringsBehind(plist []byte, key string) ([]string, error) {
	var words []string
	within := false
	for d := xml.NewDecoder(bytes.NewReader(plist)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return words, nil
		}
		if err != nil {
			return nil, err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "key" && start.Name.Local != "string" {
			continue
		}
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			return nil, err
		}
		if start.Name.Local == "key" {
			within = text == key
		} else if within {
			words = append(words, text)
		}
	}
}

const agent = `<?xml version="1.0" encoding="UTF-8"?>
<!-- ` + marker + `, which also changes it; ` + "`broker service uninstall`" + ` removes it. -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>%s</string>
	<key>ProgramArguments</key>
	<array>
		<string>%s</string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
%s	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ProcessType</key>
	<string>Background</string>
	<key>Umask</key>
	<integer>63</integer>
	<key>HardResourceLimits</key>
	<dict>
		<key>Core</key>
		<integer>0</integer>
	</dict>
	<key>StandardErrorPath</key>
	<string>%s</string>
</dict>
</plist>
`
