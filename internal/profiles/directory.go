package profiles

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/system"
)

// DirectoryFile is the name of the file that says which profiles and accounts belong to a directory. It counts once
// it is trusted.
const DirectoryFile = ".broker"

const (
	// maxDirectoryFile is the largest such file in bytes.
	maxDirectoryFile = 16 << 10
	// maxPath is the longest path of a directory in bytes.
	maxPath = 4096
)

// directoryKeys are the keys of a DirectoryFile.
var directoryKeys = []string{keyProfiles, keyAccounts}

// accountID matches the id of an AWS account.
var accountID = lazyregexp.New(`^[0-9]{12}$`)

// Directory is what the DirectoryFile of a directory says.
type Directory struct {
	Path     string   // of the directory
	Profiles []string // names or aliases; at least one
	Accounts []string // twelve digits each; may be empty
	SHA256   string   // hash in hex of the file
}

// file returns the path of the DirectoryFile.
func (d Directory) file() string { return filepath.Join(d.Path, DirectoryFile) }

// NearestDirectory returns the directory with a DirectoryFile that is nearest to dir: dir itself or one above it. It
// returns "" without one.
func NearestDirectory(dir string) string {
	for {
		if _, err := os.Lstat(filepath.Join(dir, DirectoryFile)); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// ReadDirectory reads the DirectoryFile of a directory, an absolute path. It follows no symbolic link to the file. The
// error is a fault that names the file: fault.NotFound for a missing file, or else fault.Config.
func ReadDirectory(path string) (Directory, error) {
	d := Directory{Path: path}
	file := d.file()
	refuse := func(format string, args ...any) (Directory, error) {
		return Directory{}, fault.New(fault.Config, "%s "+format, append([]any{file}, args...)...).WithHint("ls -ld %s", file)
	}
	if info, err := os.Lstat(file); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return refuse("is a symbolic link")
	}
	f, info, err := system.OpenRegular(file, system.NoFollow)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Directory{}, fault.New(fault.NotFound, "there is no file %s", file).WithHint("vi %s", file)
	case errors.Is(err, system.ErrNotRegular) && info != nil:
		return refuse("is not a file but a %s", modeName(info.Mode()))
	case err != nil:
		return refuse("cannot be read: %w", reason(err))
	}
	defer func() { _ = f.Close() }()
	if e := exposed(file); e != nil {
		err := fault.New(fault.Config, "%s", e.of(file, file))
		if e.Writable && e.Path == file {
			return Directory{}, err.WithHint("chmod go-w %s", file)
		}
		return Directory{}, err.WithHint("%s", e.hint())
	}
	src, err := io.ReadAll(io.LimitReader(f, maxDirectoryFile+1))
	switch {
	case err != nil:
		return refuse("cannot be read: %w", reason(err))
	case len(src) > maxDirectoryFile:
		return refuse("has more than %d KiB", maxDirectoryFile>>10)
	}
	d.SHA256 = digest(src)
	return d, d.parse(src)
}

// parse reads the content of the file.
func (d *Directory) parse(src []byte) error {
	const section = "[broker]\n" // the scanner needs one
	bad := func(line int, format string, args ...any) error {
		line = max(line-1, 1)
		return fault.New(fault.Config, "%s: "+format, append([]any{Origin{d.file(), line}}, args...)...).
			WithHint("vi +%d %s", line, d.file())
	}
	doc, problem := scan(append([]byte(section), src...), false)
	switch {
	case problem != nil:
		return bad(problem.line, "this line %s", problem.text)
	case len(doc.sections) > 1:
		return bad(doc.sections[1].line, "this line begins a section, but the file has none")
	case doc.refused != nil:
		return bad(doc.refused.line, "this line %s", doc.refused.text)
	case len(doc.problems) > 0:
		return bad(doc.problems[0].line, "this line %s", doc.problems[0].text)
	}
	for i := range doc.sections[0].entries {
		e := &doc.sections[0].entries[i]
		key := intern(directoryKeys, e.key)
		if key == "" {
			return bad(e.line, "unknown key %.40q; the keys are %s and %s", e.key, keyProfiles, keyAccounts)
		}
		for word := range strings.SplitSeq(string(e.value), ",") {
			word = trimSpace(word)
			if key == keyAccounts {
				if !accountID.MatchString(word) {
					return bad(e.line, "%.40q is not the id of an account, which has twelve digits", word)
				}
				d.Accounts = append(d.Accounts, word)
				continue
			}
			if err := checkName(word); err != nil {
				return bad(e.line, "%w", err)
			}
			d.Profiles = append(d.Profiles, word)
		}
	}
	if len(d.Profiles) == 0 {
		return bad(0, "the key %s is missing", keyProfiles)
	}
	return nil
}

// checkDirectory checks the path of a directory for the registry. The error is a fault.Usage.
func checkDirectory(path string) error {
	var why string
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		why = "it is not absolute, or not in its shortest form"
	case len(path) > maxPath:
		why = "it is too long"
	case !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }):
		why = "it has characters that cannot be printed"
	default:
		return nil
	}
	return fault.New(fault.Usage, "the path %.80q cannot be in the registry: %s", path, why)
}

// Directories are the trusted directories of a Set. A nil Directories has none.
type Directories struct {
	set     *Set
	trusted map[string]*trustedDirectory // by path
}

// trustedDirectory is a section [directory PATH].
type trustedDirectory struct {
	sum    string
	origin Origin
	last   atomic.Pointer[lookedAt]
}

// lookedAt is what the file said when it had this stamp.
type lookedAt struct {
	stamp system.Stamp
	dir   Directory
	err   error
}

// trustDirectory adds a section [directory PATH] to the set.
func (s *Set) trustDirectory(b *block) {
	if s.directories == nil {
		s.directories = &Directories{set: s, trusted: map[string]*trustedDirectory{}}
	}
	t := &trustedDirectory{origin: b.origin}
	if sum := b.find(keyTrustSum); sum != nil {
		t.sum = sum.value
	}
	s.directories.trusted[b.name] = t
}

// TrustedDirectory is a section [directory PATH] of the registry.
type TrustedDirectory struct {
	Path   string
	State  string // Trusted or TrustChanged
	Err    error  // why the file cannot be used; State is then empty
	Origin Origin
}

// TrustedDirectories returns the directories in the registry, sorted by path.
func (s *Set) TrustedDirectories() []TrustedDirectory {
	var list []TrustedDirectory
	if s.directories != nil {
		for path, t := range s.directories.trusted {
			d, err := ReadDirectory(path)
			one := TrustedDirectory{Path: path, Origin: t.origin, Err: err}
			if err == nil {
				one.State = s.DirectoryState(d)
			}
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b TrustedDirectory) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// DirectoryState returns whether a directory is Trusted, Untrusted or TrustChanged.
func (s *Set) DirectoryState(d Directory) string {
	if s.directories == nil || s.directories.trusted[d.Path] == nil {
		return Untrusted
	}
	if s.directories.trusted[d.Path].sum != d.SHA256 {
		return TrustChanged
	}
	return Trusted
}

// TrustKeys returns the keys of [directory PATH] after a confirmation.
func (d Directory) TrustKeys() []KeyValue { return []KeyValue{{keyTrustSum, d.SHA256}} }

// AdmitDirectory returns nil if a directory is trusted as it is. The error is a fault.NotConfirmed.
func (s *Set) AdmitDirectory(d Directory) error {
	what := "takes effect only once you trust it"
	switch s.DirectoryState(d) {
	case Trusted:
		return nil
	case TrustChanged:
		what = "changed since you trusted it"
	}
	return fault.New(fault.NotConfirmed, "%s %s", d.file(), what).WithHint("broker profiles trust %s --directory", d.Path)
}

// DirectoryProfile returns the exact name of the first profile of the DirectoryFile that is nearest to dir, or "" if
// no file is found. The file must be trusted.
func (s *Set) DirectoryProfile(dir string) (string, error) {
	path := NearestDirectory(dir)
	if path == "" {
		return "", nil
	}
	d, err := ReadDirectory(path)
	if err == nil {
		err = s.AdmitDirectory(d)
	}
	if err != nil {
		return "", err
	}
	name, ok, err := s.exact(d.Profiles[0])
	if !ok && err == nil {
		err = fault.New(fault.NotFound, "%s names %q, which is neither a profile nor an alias", d.file(), d.Profiles[0]).
			WithHint("broker profiles list")
	}
	return name, err
}

// Unknown returns the profiles of a directory that are neither a profile nor an alias of this Set.
func (s *Set) Unknown(d Directory) []string {
	return slices.DeleteFunc(slices.Clone(d.Profiles), func(name string) bool {
		_, ok, err := s.exact(name)
		return ok && err == nil
	})
}

// Outside returns why a session does not belong to the directory in which a process works, or "" if it does. The
// deepest trusted directory around it decides; one whose file is gone does not count. profile is the exact name of the
// session's profile, or "" if only its account counts.
func (t *Directories) Outside(dir, profile, account string) (why string) {
	if t == nil || !filepath.IsAbs(dir) {
		return ""
	}
	for {
		if at := t.trusted[dir]; at != nil {
			if d, err := at.look(dir); !fault.Is(err, fault.NotFound) {
				if err == nil {
					err = t.set.AdmitDirectory(d)
				}
				if err != nil {
					f := fault.Of(err)
					return f.Error() + "; to end that: " + f.ShownHint()
				}
				if t.owns(d, profile, account) {
					return ""
				}
				return "it does not belong to " + dir + " (" + DirectoryFile + ")" + t.unlinked(d, profile)
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// owns reports whether a profile or an account belongs to a directory.
func (t *Directories) owns(d Directory, profile, account string) bool {
	return slices.Contains(d.Accounts, account) || slices.ContainsFunc(d.Profiles, func(name string) bool {
		exact, ok, _ := t.set.exact(name)
		return ok && exact == profile
	})
}

// unlinked returns an addition to the reason of Outside: which profile of the directory makes AWS tools ask for this
// other one, because it is not linked. It returns "" if there is no such profile.
func (t *Directories) unlinked(d Directory, profile string) string {
	for _, name := range d.Profiles {
		exact, ok, _ := t.set.exact(name)
		if !ok || profile == "" {
			continue
		}
		asked := exact
		for range maxHops {
			p, _ := t.set.lookup(asked)
			if _, role := p.way(p.aws, wayRole); !role {
				break
			}
			asked = p.aws.text(keySourceProfile)
		}
		if asked == profile {
			return "; " + exact + ", which does, is not linked, so AWS tools ask for " + profile + ": " + string(link(exact))
		}
	}
	return ""
}

// look returns what the file of the directory says. It reads the file only if it has changed.
func (at *trustedDirectory) look(path string) (Directory, error) {
	stamp, err := system.StampOfPath(filepath.Join(path, DirectoryFile), false)
	if last := at.last.Load(); err == nil && last != nil && last.stamp == stamp {
		return last.dir, last.err
	}
	d, derr := ReadDirectory(path)
	// A file that changed a moment ago may change again without a new stamp.
	if err == nil && runtime.GOOS != "windows" && time.Since(time.Unix(0, stamp.Changed)) > coarse {
		at.last.Store(&lookedAt{stamp, d, derr})
	}
	return d, derr
}
