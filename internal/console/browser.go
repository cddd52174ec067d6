package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/system"
)

// Browser is the command that opens an address.
type Browser struct {
	Words   []string // of the command, with the placeholders {profile}, {account} and {url}
	Profile string
	Account string
	Path    string // directories that are searched for programs first, in the form of environ.Path
	Dir     string // the working directory of the program; "" for that of this process
}

// ErrNoBrowser means that this machine has no program that opens an address.
var ErrNoBrowser = &fault.Error{Kind: fault.Failed, Message: "no browser was found"}

// Command returns the program and its arguments that open an address. No shell is involved. Without Words, it is
// the desktop's opener; if there is none, the error is ErrNoBrowser. Command refuses a profile whose name could
// act as an option or a path in its place.
func (b Browser) Command(address string) ([]string, error) {
	if len(b.Words) == 0 {
		return b.standard(address)
	}
	var words []string
	placed := false
	for _, word := range b.Words {
		if strings.Contains(word, "{profile}") && !plainName(b.Profile) {
			return nil, fault.New(fault.Failed,
				"the browser's command has {profile}, but %q could be more than a name there", b.Profile)
		}
		if strings.Contains(word, "{account}") && b.Account == "" {
			return nil, fault.New(fault.Failed,
				"the browser's command has {account}, but the account of %q is unknown", b.Profile)
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

// find searches path for a program whose name has no directory. It returns "" if the program is not there.
func find(name, path string) string {
	if filepath.Base(name) != name {
		return ""
	}
	return environ.Find(strings.TrimSuffix(name, system.Exe), path)
}

// FromShell returns the words for a Browser from the variable BROWSER of a shell: commands separated by colons (on
// Windows by semicolons), in which %s is the address. It returns the first command that may run. A file in a
// repository can set that variable. So a plain name is searched only in path, which has the form of environ.Path.
// Anything else must be the absolute path of a program that only root and the user of this process can change. The
// warnings say which commands were skipped, and why. Run the program in ShellDir: "make" and "sh x" find other
// programs in the working directory.
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
			// Lists often name programs that only some machines have.
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotInPath) {
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

// ShellDir is the working directory of a program of BROWSER. Only root writes to it.
const ShellDir = string(filepath.Separator)

var errNotInPath = errors.New("there is no such program in Broker's PATH")

func shellProgram(name, path string) (string, error) {
	if filepath.Base(name) == name {
		if program := find(name, path); program != "" {
			return program, nil
		}
		return "", errNotInPath
	}
	if err := system.TrustedProgram(name); err != nil {
		return "", err
	}
	return exec.LookPath(name)
}

// plainName reports whether a name can act neither as an option nor as a path.
func plainName(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsAny(s, `/\&?#%"`) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' })
}

// standard returns the command of the machine's default browser.
func (b Browser) standard(address string) ([]string, error) {
	opener := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		opener = []string{"open"}
	case "windows": // unlike start, it passes the address through no shell
		opener = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	if program := find(opener[0], b.Path); program != "" {
		return append([]string{program}, append(opener[1:], address)...), nil
	}
	return nil, ErrNoBrowser
}

// Start starts a command in dir that may outlive us, in its own session and without our terminal. If dir is empty, it
// is the working directory; otherwise the environment does not name that. The channel receives its result.
func Start(words, environ []string, dir string) (<-chan error, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = dir, environ
	if dir != "" {
		cmd.Env = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
			return strings.HasPrefix(kv, "PWD=") || strings.HasPrefix(kv, "OLDPWD=")
		})
	}
	cmd.SysProcAttr = system.Session()
	if err := cmd.Start(); err != nil {
		return nil, fault.New(fault.Failed, "the browser %q cannot be run", words[0])
	}
	ended := make(chan error, 1)
	go func() {
		if err := cmd.Wait(); err != nil {
			ended <- fault.New(fault.Failed,
				"the browser did not open the address: %s ended with %s", words[0], fmt.Sprint(cmd.ProcessState))
			return
		}
		ended <- nil
	}()
	return ended, nil
}
