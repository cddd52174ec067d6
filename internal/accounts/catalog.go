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

// gitTimeout limits one call of git. Git must not prompt for a passphrase or password, so nobody has to type
// within that time.
const gitTimeout = 60 * time.Second

// defaultPath is the default path of the map in a repository.
const defaultPath = "accounts.ini"

var (
	gitURL = lazyregexp.New(`^(https|ssh|file)://[!-~]+$`)
	// user@host:path, git's form for ssh. The host must not begin with a dash: ssh would read it as a flag.
	scpURL  = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[!-~]+$`)
	anyURL  = lazyregexp.New(`^[A-Za-z][A-Za-z0-9+.-]*:`)
	gitPath = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
)

// checkCatalog reports why a place cannot be the setting catalog: a git repository by https, ssh or file, or the
// absolute path of a repository or of a map. The error says what is wrong, without a prefix.
func checkCatalog(place string) error {
	switch {
	case filepath.IsAbs(place):
		return nil
	case strings.HasPrefix(place, "https://") && strings.Contains(strings.SplitN(place[8:], "/", 2)[0], "@"):
		return errors.New("contains a user or password; leave that to git's credential helper")
	case gitURL.MatchString(place), scpURL.MatchString(place):
		host := strings.TrimPrefix(strings.TrimPrefix(place, "ssh://"), "https://")
		if strings.HasPrefix(host, "-") || strings.Contains(host, "@-") {
			return errors.New("has a host that begins with a dash")
		}
		return nil
	case anyURL.MatchString(place):
		return errors.New("does not use https, ssh or file")
	}
	return errors.New("is neither an absolute path nor the URL of a git repository such as git@HOST:PATH")
}

// Fetch reads the account map at the place that the setting catalog gives, and returns a name for it in messages.
// From a git repository it reads the file at path (defaultPath if empty) at the head of the default branch. It
// uses the system's git in a temporary directory below dir: without a work tree, hooks, submodules, a shell,
// transports that run programs, or prompts.
//
// Errors: fault.Config for an invalid place or path; fault.Failed if git or the file cannot be read.
func Fetch(ctx context.Context, dir, place, path string) (name string, src []byte, err error) {
	if err := checkCatalog(place); err != nil {
		return "", nil, fault.New(fault.Config, "the catalog %w", err)
	}
	if path == "" {
		path = defaultPath
	}
	if !gitPath.MatchString(path) || strings.Contains(path, "..") {
		return "", nil, fault.New(fault.Config, "%.80q is not the path of a file within a repository", path)
	}
	if filepath.IsAbs(place) {
		info, err := os.Stat(place)
		if err != nil {
			return "", nil, fault.New(fault.Failed, "read the account map: %w", err)
		}
		if !info.IsDir() {
			src, err := ReadFile(place)
			return place, src, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fault.New(fault.Failed, "read the account map: %w", err)
	}
	repo, err := os.MkdirTemp(dir, "catalog.*")
	if err != nil {
		return "", nil, fault.New(fault.Failed, "read the account map: %w", err)
	}
	defer func() { _ = os.RemoveAll(repo) }()
	g := git{dir: repo, place: place}
	if _, err := g.run(ctx, "init", "--quiet", "--bare", "--template="); err != nil {
		return "", nil, err
	}
	// Only this call writes FETCH_HEAD, so no remote needs to be configured.
	if _, err := g.run(ctx, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--", place, "HEAD"); err != nil {
		return "", nil, err
	}
	// Read the raw blob: show and checkout would apply attributes and filters.
	src, err = g.run(ctx, "cat-file", "blob", "FETCH_HEAD:"+path)
	return filepath.Base(path), src, err
}

// ReadFile reads a map from a regular file.
func ReadFile(path string) ([]byte, error) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return nil, fault.New(fault.Failed, "read the account map: %w", err).
			WithHint("ls -l %s", filepath.Dir(path))
	}
	defer func() { _ = f.Close() }()
	src, err := io.ReadAll(io.LimitReader(f, maxSize+1)) // Parse reports that it is too long
	if err != nil {
		return nil, fault.New(fault.Failed, "read the account map: %w", err)
	}
	return src, nil
}

// git is the system's git in one bare repository.
type git struct{ dir, place string }

// guards are the options before every command; options on the command line override all configuration.
var guards = []string{
	"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.askPass=", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
	"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.ssh.allow=always", "-c", "protocol.file.allow=always",
	"-c", "protocol.ext.allow=never", "-c", "submodule.recurse=false", "-c", "fetch.fsckObjects=true", "-c", "http.followRedirects=false",
}

func (g git) run(ctx context.Context, args ...string) ([]byte, error) {
	said := &firstLines{}
	out, err := child.Command{
		Program: "git", Args: append(append([]string{"-C", g.dir}, guards...), args...), Env: gitEnv(), Dir: g.dir,
		Stderr: said, Timeout: gitTimeout, Limit: maxSize,
	}.Run(ctx)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, child.ErrNotFound):
		return nil, fault.New(fault.Failed, "the catalog is a git repository, but git is not on the PATH")
	case errors.Is(err, child.ErrTooMuch):
		return nil, fault.New(fault.Config, "the account map has more than %d bytes", maxSize)
	}
	return nil, fault.New(fault.Failed, "read the account map: git %s %w%s", args[0], err, said.fatal())
}

// gitEnv returns the variables that git needs to find the user's configuration and ssh agent, and none that make
// it run another program or prompt.
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

// firstLines keeps the beginning of git's output.
type firstLines struct{ bytes.Buffer }

func (f *firstLines) Write(p []byte) (int, error) {
	if room := 4096 - f.Len(); room > 0 {
		f.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// fatal returns the line in which git gives the reason, safe for a message.
func (f *firstLines) fatal() string {
	for line := range strings.Lines(f.String()) {
		if text, ok := strings.CutPrefix(line, "fatal: "); ok {
			return ": " + fault.Line(strings.TrimSpace(text))
		}
	}
	return ""
}
