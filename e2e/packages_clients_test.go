//go:build clients

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/service"
	"broker/internal/testtree"
)

// packaged is the content of each package: path, mode, and the target of a link. Debian has other places for two
// of the files.
const packaged = `/usr/bin/broker 711
/usr/bin/brokerd 711
/usr/bin/credproc 755
/usr/bin/docker-credential-broker -> broker
/usr/lib/systemd/user/broker.service 644
/usr/lib/systemd/user/broker.socket 644
/usr/share/bash-completion/completions/broker 644
/usr/share/bash-completion/completions/credproc -> broker
/usr/share/fish/vendor_completions.d/broker.fish 644
/usr/share/fish/vendor_completions.d/credproc.fish -> broker.fish
/usr/share/licenses/broker/LICENSE 644
/usr/share/man/man1/broker.1 644
/usr/share/man/man1/credproc.1 644
/usr/share/man/man8/brokerd.8 644
/usr/share/zsh/site-functions/_broker 644
`

var packagedForDebian = strings.NewReplacer("licenses/broker/LICENSE", "doc/broker/copyright",
	"zsh/site-functions", "zsh/vendor-completions").Replace(packaged)

// twoVersions makes the packages of two versions of this tree, 0.0.1 and 0.0.2, for this machine, and returns
// their directory. It commits the tree to a separate repository, so uncommitted changes are in the packages, too.
var twoVersions = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(binaries, "packages-")
	if err != nil {
		return "", err
	}
	if err := testtree.Copy(dir, ".."); err != nil {
		return "", err
	}
	const script = `set -eu
git init -q . && git add -A
export GIT_AUTHOR_DATE=2026-11-01T00:00:00Z GIT_COMMITTER_DATE=2026-11-01T00:00:00Z
for version in 0.0.1 0.0.2; do
	git -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m $version && git tag v$version
	make packages targets=linux/$0
done`
	cmd := exec.Command("sh", "-c", script, runtime.GOARCH)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make packages: %w\n%s", err, out)
	}
	return filepath.Join(dir, "dist"), nil
})

// packages returns the directory with the packages, or skips the test.
func packages(t *testing.T, tools ...string) string {
	t.Helper()
	for _, tool := range append(tools, "make", "git") {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
	dir, err := twoVersions()
	must(t, err)
	return dir
}

// packageOf returns the only package with this ending.
func packageOf(t *testing.T, dir, version, ending string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"+version+"*"+ending))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages of %s with the ending %s: %q, %v", version, ending, found, err)
	}
	return found[0]
}

// TestClientsPackagesAreAlike checks that all packages have the same files with the same modes, owned by root.
// bsdtar reads the formats for which there is no other reader here.
func TestClientsPackagesAreAlike(t *testing.T) {
	dir := packages(t, "bsdtar", "dpkg-deb")
	for ending, want := range map[string]string{".deb": packagedForDebian, ".rpm": packaged, ".apk": packaged,
		".pkg.tar.zst": packaged} {
		reader := exec.Command("bsdtar", "-cf", "-", "@"+packageOf(t, dir, "0.0.1", ending))
		if ending == ".deb" {
			reader = exec.Command("dpkg-deb", "--fsys-tarfile", packageOf(t, dir, "0.0.1", ending))
		}
		out, err := reader.StdoutPipe()
		must(t, err)
		must(t, reader.Start())
		var list []string
		for r := tar.NewReader(out); ; {
			f, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			name := "/" + strings.TrimPrefix(strings.TrimPrefix(f.Name, "./"), "/")
			if strings.HasPrefix(name, "/.") || name == "/" {
				continue // added by the format, such as .PKGINFO
			}
			if f.Uid != 0 || f.Gid != 0 {
				t.Errorf("%s: %s belongs to %d:%d", ending, name, f.Uid, f.Gid)
			}
			switch f.Typeflag {
			case tar.TypeDir: // other directories are the system's; a format may have to list them
				own := strings.HasSuffix(strings.TrimSuffix(name, "/"), "/broker")
				if f.Mode&0o777 != 0o755 || ending == ".rpm" && !own {
					t.Errorf("%s: the directory %s with mode %o", ending, name, f.Mode)
				}
			case tar.TypeSymlink:
				list = append(list, fmt.Sprintf("%s -> %s\n", name, f.Linkname))
			default:
				list = append(list, fmt.Sprintf("%s %o\n", name, f.Mode&0o7777))
			}
		}
		must(t, reader.Wait())
		slices.Sort(list)
		if got := strings.Join(list, ""); got != sorted(want) {
			t.Errorf("%s has\n%s\nwant\n%s", ending, got, sorted(want))
		}
	}
}

func sorted(lines string) string {
	list := strings.SplitAfter(strings.TrimSuffix(lines, "\n"), "\n")
	list[len(list)-1] += "\n"
	slices.Sort(list)
	return strings.Join(list, "")
}

// enterRoot is a shell script that runs a program in another root directory as another user, with /proc and /dev.
const enterRoot = `mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" &&
	exec chroot --userspec=65534:65534 "$0" "$@"`

// TestClientsPackageLifeCycle installs the deb into a fresh root directory, uses it as another user, upgrades it
// under a running daemon, and removes it. In the end only the user's files are left.
func TestClientsPackageLifeCycle(t *testing.T) {
	needRoot(t)
	dir := packages(t, "dpkg", "mandoc", "groff", "systemd-analyze", "unshare")
	h := newHouse(t)
	must(t, h.startSim())
	root := filepath.Join(h.dir, "root")
	for _, name := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "proc", "dev", "tmp",
		"home/paul/.config/broker", "home/paul/.aws"} {
		must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
	}
	must(t, os.Chmod(filepath.Dir(h.dir), 0o755))
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	must(t, os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644))
	home := filepath.Join(root, "home/paul")
	for name, text := range map[string]string{
		".config/broker/config": "[settings]\nkeyring_backend = file\nsts_endpoint = " + h.sim.url + "\n",
		".aws/config":           demoConfig,
		"passphrase":            passphrase + "\n",
		"keys.csv":              fmt.Sprintf("Access key ID,Secret access key\n%s,%s\n", keyID, keySecret),
	} {
		must(t, os.WriteFile(filepath.Join(home, name), []byte(text), 0o600))
	}
	must(t, filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
	before := pathsBelow(t, root)

	dpkg := func(args ...string) {
		t.Helper()
		cmd := exec.Command("dpkg", append([]string{"--root=" + root, "--log=/dev/null"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dpkg %s: %v\n%s", args, err, out)
		}
	}
	try := func(stdin, program string, args ...string) result {
		enter := []string{"--mount", "--propagation", "private", "sh", "-c", enterRoot, root, "/usr/bin/" + program}
		cmd := h.command("unshare", append(enter, args...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/home/paul",
			"BROKER_KEYRING_PASSPHRASE_FILE=/home/paul/passphrase"}
		cmd.Stdin = strings.NewReader(stdin)
		return finish(cmd)
	}
	run := func(program string, args ...string) string {
		t.Helper()
		r := try("", program, args...)
		if r.code != 0 {
			t.Fatalf("%s %q: %v", program, args, r)
		}
		return r.stdout
	}
	works := func() {
		t.Helper()
		var d document
		if err := json.Unmarshal([]byte(run("credproc", "product_prod_paul")), &d); err != nil || d.AccessKeyID == "" {
			t.Errorf("credproc: %+v, %v", d, err)
		}
	}

	// Installed and used.
	dpkg("-i", packageOf(t, dir, "0.0.1", ".deb"))
	t.Cleanup(func() { try("", "broker", "daemon", "--stop") })
	if got := run("broker", "version"); got != "broker 0.0.1\n" {
		t.Errorf("got %s", got)
	}
	var info struct{ Version, Commit, Date, Go string }
	must(t, json.Unmarshal([]byte(run("broker", "version", "--json")), &info))
	if info.Version != "0.0.1" || len(info.Commit) != 40 || info.Date != "2026-11-01T00:00:00Z" ||
		info.Go != runtime.Version() {
		t.Errorf("version --json: %+v", info)
	}
	run("broker", "add", "security", "--csv", "/home/paul/keys.csv", "--mfa-serial", serial)
	if r := try(seed+"\n", "broker", "mfa", "set", "security", "--seed-stdin"); r.code != 0 {
		t.Fatal(r)
	}
	works()
	h.readPages(t, root)
	h.verifyUnits(t, root)

	// Upgraded while the old daemon runs.
	dpkg("-i", packageOf(t, dir, "0.0.2", ".deb"))
	works()
	if got := run("broker", "status"); !strings.Contains(got, "daemon 0.0.1, this program 0.0.2; broker service restart") {
		t.Errorf("status after the upgrade:\n%s", got)
	}
	run("broker", "service", "restart")
	if got := run("broker", "status"); !strings.Contains(got, "version 0.0.2") || strings.Contains(got, "0.0.1") {
		t.Errorf("status after the restart:\n%s", got)
	}
	works()

	// Removed.
	run("broker", "daemon", "--stop")
	owned := pathsBelow(t, home)
	dpkg("--purge", "broker")
	if after := pathsBelow(t, home); !slices.Equal(after, owned) || len(after) <= len(before) {
		t.Errorf("the user now has\n%s\nbefore there was\n%s", strings.Join(after, "\n"), strings.Join(owned, "\n"))
	}
	var left []string
	for _, path := range pathsBelow(t, root) {
		own := strings.HasPrefix(path, "/home/paul/") || strings.HasPrefix(path, "/var/lib/dpkg/")
		if !own && !slices.Contains(before, path) {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	status, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
	if err != nil || strings.Contains(string(status), "broker") {
		t.Errorf("dpkg still lists the package: %s, %v", status, err)
	}
}

// pathsBelow returns every path below dir.
func pathsBelow(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		list = append(list, strings.TrimPrefix(path, dir))
		return err
	}))
	return list
}

// readPages reads the manual pages with mandoc and groff, which must not complain.
func (h *house) readPages(t *testing.T, root string) {
	t.Helper()
	for page, want := range map[string]string{"man1/broker.1": "broker exec", "man1/credproc.1": "credential_process",
		"man8/brokerd.8": "--background"} {
		path := filepath.Join(root, "usr/share/man", page)
		r := h.run("mandoc", "-W", "warning", "-T", "utf8", "-O", "width=78", path)
		if r.code != 0 || !strings.Contains(unbold(r.stdout), want) {
			t.Errorf("mandoc: %s: %v", page, r)
		}
		if r := h.run("groff", "-ww", "-k", "-Tutf8", "-man", path); r.code != 0 || r.stderr != "" {
			t.Errorf("groff: %s: exit code %d, %s", page, r.code, r.stderr)
		}
	}
}

// unbold removes the backspaces with which a page marks bold text.
func unbold(s string) string {
	var b []rune
	for _, r := range s {
		if r == '\b' && len(b) > 0 {
			b = b[:len(b)-1]
			continue
		}
		b = append(b, r)
	}
	return string(b)
}

// verifyUnits checks the units with systemd. It looks for the program on this machine, so the copies use the
// program's path here.
func (h *house) verifyUnits(t *testing.T, root string) {
	t.Helper()
	units := t.TempDir()
	for _, name := range []string{service.ServiceUnit, service.SocketUnit} {
		text, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/user", name))
		must(t, err)
		copied := strings.ReplaceAll(string(text), "/usr/bin/", root+"/usr/bin/")
		must(t, os.WriteFile(filepath.Join(units, name), []byte(copied), 0o644))
	}
	for _, name := range []string{service.ServiceUnit, service.SocketUnit} {
		cmd := h.command("systemd-analyze", "--user", "verify", filepath.Join(units, name))
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+units)
		if r := finish(cmd); r.code != 0 || r.stderr != "" {
			t.Errorf("systemd-analyze verify %s: %v", name, r)
		}
	}
}

// TestClientsReleaseArchive checks that a release archive has the files of the packages, below one directory.
func TestClientsReleaseArchive(t *testing.T) {
	dir := packages(t, "tar")
	source := filepath.Dir(dir)
	const script = `make -s layout BIN=bin/linux-$0 SYSTEM=linux DESTDIR=bin/stage/a PREFIX=/usr/local mode=711 &&
	bin/dist archive bin/stage/a/usr/local bin/broker-0.0.2.tar.gz`
	cmd := exec.Command("sh", "-c", script, runtime.GOARCH)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(filepath.Join(source, "bin/broker-0.0.2.tar.gz"))
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	var list []string
	for r := tar.NewReader(z); ; {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		name := strings.Replace(f.Name, "broker-0.0.2/", "/usr/", 1)
		switch f.Typeflag {
		case tar.TypeSymlink:
			list = append(list, fmt.Sprintf("%s -> %s\n", name, f.Linkname))
		case tar.TypeReg:
			list = append(list, fmt.Sprintf("%s %o\n", name, f.Mode))
		}
	}
	slices.Sort(list)
	if got := strings.Join(list, ""); got != sorted(packaged) {
		t.Errorf("the archive has\n%s\nwant\n%s", got, sorted(packaged))
	}
}

// TestClientsSystemdPackagedUnits checks that `broker service` knows the units of a package that the user enabled:
// status shows them, restart and stop work on them, and uninstall disables them but leaves their files.
func TestClientsSystemdPackagedUnits(t *testing.T) {
	h := demo(t)
	h.systemd(t)
	must(t, h.stopDaemon())
	dir := filepath.Join(h.home, ".local/share/systemd/user") // systemd reads it like /usr/lib/systemd/user
	files, err := service.Packaged(dir, filepath.Join(h.bin, "brokerd"))
	must(t, err)
	for _, f := range files {
		must(t, h.write(f.Path, f.Text))
	}
	var status struct {
		Installed, Running bool
		Files              []string
		Enabled, Active    string
		StartedBy          string `json:"started_by"`
	}
	look := func() {
		t.Helper()
		status.StartedBy, status.Files = "", nil
		must(t, json.Unmarshal([]byte(h.ok(t, "broker", "service", "status", "--json")), &status))
	}
	h.ok(t, "systemctl", "--user", "daemon-reload")
	if look(); status.Installed {
		t.Errorf("before they are enabled: %+v", status)
	}
	h.ok(t, "systemctl", "--user", "enable", "--now", service.SocketUnit)
	h.credentials(t, "product_prod_paul")
	look()
	if !status.Installed || status.StartedBy != "socket activation" || !slices.Contains(status.Files, files[0].Path) {
		t.Errorf("enabled: %+v", status)
	}
	old := h.daemonPID(t)
	h.ok(t, "broker", "service", "restart")
	h.credentials(t, "product_prod_paul")
	if h.daemonPID(t) == old {
		t.Error("it was not restarted")
	}
	h.ok(t, "broker", "service", "stop")
	if look(); status.Running || status.Active != "inactive" {
		t.Errorf("stopped: %+v", status)
	}
	if out := h.ok(t, "broker", "service", "uninstall"); !strings.Contains(out, "belong to a package; disabled") {
		t.Errorf("uninstall: %s", out)
	}
	if look(); status.Installed || status.Enabled != "disabled" {
		t.Errorf("after uninstall: %+v", status)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f.Path); err != nil || string(text) != f.Text {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
}

// TestClientsReleaseSignature checks with minisign the signature that `make release` makes if MINISIGN_KEY is set.
func TestClientsReleaseSignature(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	must(t, err)
	_, tool, found := strings.Cut(string(makefile), "\nminisign  := $(run) ")
	tool, _, _ = strings.Cut(tool, "\n")
	if !found {
		t.Fatal("the Makefile does not use minisign: the test is void")
	}
	dir := t.TempDir()
	sums := filepath.Join(dir, "SHA256SUMS")
	must(t, os.WriteFile(sums, []byte("x  y\n"), 0o644))
	minisign := func(args ...string) result {
		cmd := exec.Command("go", append([]string{"run", "-trimpath", tool}, args...)...)
		cmd.Dir = dir
		return finishWithin(5*time.Minute, cmd)
	}
	pub, key := filepath.Join(dir, "minisign.pub"), filepath.Join(dir, "minisign.key")
	if r := minisign("-G", "-W", "-p", pub, "-s", key); r.code != 0 {
		t.Fatal(r)
	}
	if r := minisign("-S", "-s", key, "-t", "Broker v0.0.1", "-m", sums); r.code != 0 {
		t.Fatal(r)
	}
	if r := minisign("-V", "-p", pub, "-m", sums); r.code != 0 || !strings.Contains(r.stdout, "Broker v0.0.1") {
		t.Errorf("verify: %v", r)
	}
	must(t, os.WriteFile(sums, []byte("z  y\n"), 0o644))
	if r := minisign("-V", "-p", pub, "-m", sums); r.code == 0 {
		t.Errorf("a changed list has a good signature: %v", r)
	}
}
