package service

import (
	"fmt"
	"path/filepath"
	"slices"
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

// escapes has each character that is escaped in XML, and its escape.
var escapes = []string{"&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;"}

func escaped(s string) string { return strings.NewReplacer(escapes...).Replace(s) }

func unescaped(s string) string {
	back := slices.Clone(escapes)
	slices.Reverse(back)
	return strings.NewReplacer(back...).Replace(s)
}

// LaunchdProgram returns the program that the agent starts; "" without an agent.
func LaunchdProgram(home string) string {
	text, err := read(LaunchdPath(home))
	if err != nil {
		return ""
	}
	return stringAfter(text, "ProgramArguments")
}

// stringAfter returns the first string between a key and the next key, or "".
func stringAfter(plist, key string) string {
	_, plist, _ = strings.Cut(plist, "<key>"+escaped(key)+"</key>")
	plist, _, _ = strings.Cut(plist, "<key>")
	_, plist, _ = strings.Cut(plist, "<string>")
	value, _, ok := strings.Cut(plist, "</string>")
	if !ok {
		return ""
	}
	return unescaped(value)
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
