package accounts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"broker/internal/child"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/system"
)

// gitTimeout bounds one call of git. A passphrase or password is not asked for, so
// nobody has to type within it.
const gitTimeout = 60 * time.Second

// DefaultPath is where a map is in a repository.
const DefaultPath = "accounts.ini"

var (
	gitURL = lazyregexp.New(`^(https|ssh|file)://[!-~]+$`)
	// user@host:path, as git has it for ssh. The host may not begin with a dash: ssh would take it for a flag.
	scpURL  = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[!-~]+$`)
	anyURL  = lazyregexp.New(`^[A-Za-z][A-Za-z0-9+.-]*:`)
	gitPath = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
)

// CheckCatalogue says whether a place can be a catalogue: a git repository by https, ssh or
// file, or an absolute path of one or of a map. The error says what is wrong, without a prefix.
func CheckCatalogue(place string) error {
	switch {
	case filepath.IsAbs(place):
		return nil
	case strings.HasPrefix(place, "https://") && strings.Contains(strings.SplitN(place[8:], "/", 2)[0], "@"):
		return errors.New("holds a user or password; leave that to git's credential helper")
	case gitURL.MatchString(place), scpURL.MatchString(place):
		host := strings.TrimPrefix(strings.TrimPrefix(place, "ssh://"), "https://")
		if strings.HasPrefix(host, "-") || strings.Contains(host, "@-") {
			return errors.New("names a host that begins with a dash")
		}
		return nil
	case anyURL.MatchString(place):
		return errors.New("is not by https, ssh or file")
	}
	return errors.New("is neither an absolute path nor the URL of a git repository such as git@HOST:PATH")
}

// Fetch reads the map of a catalogue, and says under which name messages speak of
// it. Of a git repository it takes the file at path (DefaultPath if empty) as it is at the head of the default
// branch, with the system's git, in a directory of its own below dir that is gone afterwards:
// no work tree, no hooks, no submodules, no shell, no transport that runs a program, no questions.
//
// Errors: fault.Config for a place or path that cannot be one; fault.Failed where git or the file cannot be read.
func Fetch(ctx context.Context, dir, place, path string) (name string, src []byte, err error) {
	if err := CheckCatalogue(place); err != nil {
		return "", nil, fault.New(fault.Config, "the catalogue %w", err)
	}
	if path == "" {
		path = DefaultPath
	}
	if !gitPath.MatchString(path) || strings.Contains(path, "..") {
		return "", nil, fault.New(fault.Config, "%.80q is not the path of a file within a repository", path)
	}
	if filepath.IsAbs(place) {
		info, err := os.Stat(place)
		if err != nil {
			return "", nil, fault.New(fault.Failed, "read the catalogue: %w", err)
		}
		if !info.IsDir() {
			src, err := ReadFile(place)
			return place, src, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fault.New(fault.Failed, "read the catalogue: %w", err)
	}
	repo, err := os.MkdirTemp(dir, "catalog.*")
	if err != nil {
		return "", nil, fault.New(fault.Failed, "read the catalogue: %w", err)
	}
	defer func() { _ = os.RemoveAll(repo) }()
	g := git{dir: repo, place: place}
	if _, err := g.run(ctx, "init", "--quiet", "--bare", "--template="); err != nil {
		return "", nil, err
	}
	// FETCH_HEAD is written by this alone, so no remote has to be made.
	if _, err := g.run(ctx, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--", place, "HEAD"); err != nil {
		return "", nil, err
	}
	// The blob as it is: show and checkout would ask attributes and filters.
	src, err = g.run(ctx, "cat-file", "blob", "FETCH_HEAD:"+path)
	return filepath.Base(path), src, err
}

// ReadFile reads a map from a regular file.
func ReadFile(path string) ([]byte, error) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return nil, fault.New(fault.Failed, "read the account map: %w", err)
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, MaxSize+1)) // Parse says that it is too long
	if err != nil {
		return nil, fault.New(fault.Failed, "read the account map: %w", err)
	}
	return src, nil
}

// git is the system's git in one bare repository.
type git struct{ dir, place string }

// guards come before every command; what is given so wins over all configuration.
var guards = []string{
	"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.askPass=", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
	"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.ssh.allow=always", "-c", "protocol.file.allow=always",
	"-c", "protocol.ext.allow=never", "-c", "submodule.recurse=false", "-c", "fetch.fsckObjects=true", "-c", "http.followRedirects=false",
}

func (g git) run(ctx context.Context, args ...string) ([]byte, error) {
	said := &firstLines{}
	out, err := child.Command{
		Program: "git", Args: append(append([]string{"-C", g.dir}, guards...), args...), Env: gitEnv(), Dir: g.dir,
		Stderr: said, Timeout: gitTimeout, Limit: MaxSize,
	}.Run(ctx)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, child.ErrNotFound):
		return nil, fault.New(fault.Failed, "the catalogue is a git repository, and there is no git on the PATH")
	case errors.Is(err, child.ErrTooMuch):
		return nil, fault.New(fault.Config, "the account map of the catalogue has more than %d bytes", MaxSize)
	}
	return nil, fault.New(fault.Failed, "read the catalogue: git %s %w%s", args[0], err, said.fatal())
}

// gitEnv is what git needs to find the user's configuration and ssh agent, and
// nothing that makes it run or ask another program.
func gitEnv() []string {
	env := []string{"GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_CONFIG_GLOBAL"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// firstLines keeps the beginning of what git says.
type firstLines struct{ bytes.Buffer }

func (f *firstLines) Write(p []byte) (int, error) {
	if room := 4096 - f.Len(); room > 0 {
		f.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// fatal is the line in which git says why, fit for a message.
func (f *firstLines) fatal() string {
	for line := range strings.Lines(f.String()) {
		if text, ok := strings.CutPrefix(line, "fatal: "); ok {
			return ": " + fault.Line(strings.TrimSpace(text))
		}
	}
	return ""
}
