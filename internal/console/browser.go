package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/system"
)

// Browser says how an address is opened.
type Browser struct {
	Words   []string // of the command, with {profile}, {account} and {url}
	Profile string
	Account string
	Path    string // where programs are looked for first, of the form of environ.Path
}

// ErrNoBrowser is returned where nothing on this machine can open an address.
var ErrNoBrowser = fault.New(fault.Failed, "there is no browser that could be opened")

// Command is the program and its arguments that open an address. Nothing goes through a shell. Without words it is what
// the desktop has, or the error is ErrNoBrowser. A profile whose name could be more than a name in the place where it
// stands is refused.
func (b Browser) Command(address string) ([]string, error) {
	if len(b.Words) == 0 {
		return b.standard(address)
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
	program := find(words[0], b.Path)
	if program == "" {
		var err error
		if program, err = exec.LookPath(words[0]); err != nil {
			return nil, fault.New(fault.Failed, "the browser %q cannot be run: there is no such program", words[0])
		}
	}
	words[0] = program
	return words, nil
}

// find looks in path for a program whose name has no directory. The result is empty where it is not there.
func find(name, path string) string {
	if filepath.Base(name) != name {
		return ""
	}
	return environ.Find(strings.TrimSuffix(name, system.Exe), path)
}

// FromShell returns the words for a Browser from the variable BROWSER of a shell: commands with colons between (on
// Windows semicolons). The first one that may be run counts; %s is the address. A file of a repository can set
// that variable. So a name is looked for in path alone, which has the form of environ.Path, and anything else has to be
// the absolute path of a program that nobody but root and the user of this process can change. The warnings say which
// commands were passed over, and why.
func FromShell(variable, path string) (words, warnings []string) {
	var missing []string
	for _, command := range strings.Split(variable, string(os.PathListSeparator)) {
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		program, err := shellProgram(words[0], path)
		if err != nil {
			warning := fmt.Sprintf("%q in BROWSER of your shell is not used: %v; %s", words[0], err,
				fault.Hintf("broker config set browser COMMAND"))
			if errors.Is(err, fs.ErrNotExist) { // a list names what some machines have
				missing = append(missing, warning)
			} else {
				warnings = append(warnings, warning)
			}
			continue
		}
		words[0] = program
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "%s", "{url}")
		}
		return words, warnings
	}
	return nil, append(warnings, missing...)
}

func shellProgram(name, path string) (string, error) {
	if filepath.Base(name) == name {
		if program := find(name, path); program != "" {
			return program, nil
		}
		return "", fmt.Errorf("%w in Broker's PATH", fs.ErrNotExist)
	}
	if err := system.TrustedProgram(name); err != nil {
		return "", err
	}
	return exec.LookPath(name)
}

// plainName reports whether a name can be neither an option nor a path.
func plainName(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsAny(s, `/\&?#%"`) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' })
}

// standard is the browser of the machine.
func (b Browser) standard(address string) ([]string, error) {
	opener := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		opener = []string{"open"}
	case "windows": // unlike start, no shell reads the address
		opener = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if program := find(opener[0], b.Path); program != "" {
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
