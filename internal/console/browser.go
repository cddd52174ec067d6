package console

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"broker/internal/fault"
	"broker/internal/system"
)

// Browser is how a person wants an address opened.
type Browser struct {
	Words   []string // of the command, with {profile}, {account} and {url}
	Profile string
	Account string
}

// ErrNoBrowser is returned where nothing on this machine can open an address.
var ErrNoBrowser = fault.New(fault.Failed, "there is no browser that could be opened")

// Command is the program and its arguments that open an address. Nothing goes through a shell. Without words
// it is one of $BROWSER, a list with colons between, else what the desktop has; the error is then ErrNoBrowser.
// A profile whose name could be more than a name in the place where it stands is refused.
func (b Browser) Command(address string) ([]string, error) {
	if len(b.Words) == 0 {
		return standard(address)
	}
	var words []string
	placed := false
	for _, word := range b.Words {
		if strings.Contains(word, "{profile}") && !plainName(b.Profile) {
			return nil, fault.New(fault.Failed, "the browser's command has {profile}, where %q could be more than a name", b.Profile)
		}
		if strings.Contains(word, "{account}") && b.Account == "" {
			return nil, fault.New(fault.Failed, "the browser's command has {account}, and %q has none", b.Profile)
		}
		placed = placed || strings.Contains(word, "{url}")
		words = append(words, strings.NewReplacer("{profile}", b.Profile, "{account}", b.Account, "{url}", address).Replace(word))
	}
	if !placed {
		words = append(words, address)
	}
	program, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fault.New(fault.Failed, "the browser %q cannot be run: there is no such program", words[0])
	}
	words[0] = program
	return words, nil
}

// plainName reports whether a name can be neither an option nor a path.
func plainName(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsAny(s, `/\&?#%"`) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' })
}

// standard is the browser of the machine.
func standard(address string) ([]string, error) {
	for _, entry := range strings.Split(os.Getenv("BROWSER"), string(os.PathListSeparator)) {
		words := strings.Fields(entry)
		if len(words) == 0 {
			continue
		}
		if program, err := exec.LookPath(words[0]); err == nil {
			words[0] = program
			if !strings.Contains(entry, "%s") {
				return append(words, address), nil
			}
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "%s", address)
			}
			return words, nil
		}
	}
	opener := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		opener = []string{"open"}
	case "windows": // unlike start, no shell reads the address
		opener = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if program, err := exec.LookPath(opener[0]); err == nil {
		return append([]string{program}, append(opener[1:], address)...), nil
	}
	return nil, ErrNoBrowser
}

// Start starts a command that may outlive us, in a session of its own and without our terminal. The channel tells how it ended.
func Start(words, environ []string) (<-chan error, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = environ
	cmd.SysProcAttr = system.Session()
	if err := cmd.Start(); err != nil {
		return nil, fault.New(fault.Failed, "the browser %q cannot be run", words[0])
	}
	ended := make(chan error, 1)
	go func() {
		if err := cmd.Wait(); err != nil {
			ended <- fault.New(fault.Failed, "the browser did not open the console: %s ended with %s", words[0], fmt.Sprint(cmd.ProcessState))
			return
		}
		ended <- nil
	}()
	return ended, nil
}
