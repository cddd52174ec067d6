// Package e2e runs the programs as a person and AWS tools run them: the real binaries, with their own HOME and the
// simulator in the place of AWS. It links none of the daemon's packages, so it tests the programs and not the
// packages.
package e2e

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/testproc"
)

// programs are the programs that the tests run.
var programs = []string{"broker", "brokerd", "credproc", "stssim"}

// binaries is the directory of the programs, which are built once for all tests.
var binaries string

func TestMain(m *testing.M) {
	if role := os.Getenv("E2E_ROLE"); role != "" {
		os.Exit(playRole(role))
	}
	// File modes in the tests are those of a usual account.
	syscall.Umask(0o022)
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	if binaries = os.Getenv("E2E_BINARIES"); binaries != "" { // this process runs inside a test
		return testproc.Run(m)
	}
	dir, err := os.MkdirTemp("", "broker-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// One of the tests starts the programs as another uid.
	if err := errors.Join(os.Chmod(dir, 0o755), build(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	binaries = dir
	return testproc.Run(m)
}

// build builds the programs as the Makefile does. For `make cover`, E2E_COVER names a directory for the coverage
// counters.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", dir+"/")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if counters := os.Getenv("E2E_COVER"); counters != "" {
		source, err := os.MkdirTemp("", "broker-e2e-source-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(source) }()
		if err := countingSource(source, counters); err != nil {
			return err
		}
		cmd.Dir = source
		cmd.Args = append(cmd.Args, "-cover", "-coverpkg=./...")
	}
	for _, name := range programs {
		cmd.Args = append(cmd.Args, "./cmd/"+name)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// modulePath returns the path of this module, which only go.mod contains.
var modulePath = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
})

// lookAtSources makes the go command run these tests again after a change of the programs: it records which files
// a test opens.
var lookAtSources = sync.OnceValue(func() error {
	var failed error
	for _, tree := range []string{"../cmd", "../internal"} {
		failed = errors.Join(failed, filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		}))
	}
	return failed
})

// The contents of the simulator's demo organization.
const (
	serial      = "arn:aws:iam::111122223333:mfa/paul"
	keyID       = "AKIADEMOPAULFAKE2222"
	keySecret   = "fake/demo+secret/of+paul/fake/demo+22222"
	robotKeyID  = "AKIADEMOROBOTFAKE333"
	robotSecret = "fake/demo+secret/of+robot/fake/demo+3333"
	seed        = "BROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDE"
	passphrase  = "the-passphrase-of-the-tests-7261"

	prodRole = "arn:aws:iam::444455556666:role/allow-admin-from-security-account"
	devRole  = "arn:aws:iam::222233334444:role/allow-admin-from-security-account"
)

// house is one person's machine: a HOME, its own programs, and a simulator if the test starts one.
type house struct {
	dir  string // everything is below this directory
	bin  string
	home string
	env  []string
	more string // additional settings
	sim  *simulator
	uid  int // of the person, if it is not the one who runs the tests
}

// newHouse makes a house for a test. When the test ends, it checks that no process is left.
func newHouse(t testing.TB) *house {
	t.Helper()
	must(t, lookAtSources())
	h, err := openHouse(t.TempDir())
	must(t, err)
	// The daemon finds programs that a test makes there, since it takes no PATH from a shell.
	h.more = "path = " + h.bin + "\n"
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(h.state("daemon.log"))
			t.Logf("daemon.log:\n%s", tail(log, 4000))
		}
	})
	return h
}

func openHouse(dir string) (*house, error) {
	h := &house{dir: dir, bin: filepath.Join(dir, "bin"), home: filepath.Join(dir, "home")}
	tmp := filepath.Join(dir, "tmp")
	for _, d := range []string{h.bin, h.home, tmp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	// Each house has its own programs, so that a process's name shows which house it belongs to.
	for _, name := range programs {
		if err := linkOrCopy(filepath.Join(binaries, name), filepath.Join(h.bin, name)); err != nil {
			return nil, err
		}
	}
	helper := filepath.Join(h.bin, "docker-credential-broker") // as `make install` links it
	if err := os.Symlink("broker", helper); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	words := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(words, []byte(passphrase+"\n"), 0o600); err != nil {
		return nil, err
	}
	h.env = []string{
		"PATH=" + h.bin + ":" + os.Getenv("PATH"),
		"HOME=" + h.home,
		"TMPDIR=" + tmp,
		"BROKER_KEYRING_PASSPHRASE_FILE=" + words,
	}
	return h, nil
}

func linkOrCopy(from, to string) error {
	if err := os.Link(from, to); err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// close ends what runs in the house. A process that does not end by itself is an error.
func (h *house) close() error {
	err := h.stopDaemon()
	if h.sim != nil {
		err = errors.Join(err, h.sim.stop())
	}
	var left []process
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if left = h.processes(); len(left) == 0 || time.Now().After(limit) {
			break
		}
	}
	for _, p := range left {
		err = errors.Join(err, fmt.Errorf("process %d was left behind: %s", p.pid, p.line))
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	return err
}

func (h *house) state(name string) string { return filepath.Join(h.home, ".local/state/broker", name) }

func (h *house) socket() string { return h.state("run/broker.sock") }

func (h *house) registry() string { return filepath.Join(h.home, ".config/broker/config") }

func (h *house) awsConfig() string { return filepath.Join(h.home, ".aws/config") }

// write replaces a file by rename, as editors do.
func (h *house) write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	if h.uid != 0 {
		if err := os.Chown(path+".new", h.uid, h.uid); err != nil {
			return err
		}
	}
	return os.Rename(path+".new", path)
}

// settings writes a registry: the simulator, the file keyring, and rest. The keyring exists and is empty.
func (h *house) settings(rest string) error {
	text := "[settings]\nkeyring_backend = file\n" + h.more
	if h.sim != nil {
		text += "sts_endpoint = " + h.sim.url + "\n"
	}
	return errors.Join(h.makeKeyring(), h.write(h.registry(), text+"\n"+rest))
}

// startSim starts the simulator.
func (h *house) startSim(args ...string) error {
	sim, err := startSimulator(h, args...)
	if err == nil {
		h.sim = sim
	}
	return err
}

// keyOfTests is a sealed key of the file keyring that passphrase opens without the usual time and memory.
// Otherwise hundreds of houses would stretch the passphrase several times each. The first `broker add` uses it
// like the key of an interrupted run.
//
//go:embed testdata/key.json
var keyOfTests []byte

func (h *house) keyring() string { return filepath.Join(h.home, ".local/share/broker/keyring") }

// makeKeyring makes an empty file keyring with keyOfTests, unless there is a keyring.
func (h *house) makeKeyring() error {
	if err := os.MkdirAll(h.keyring(), 0o700); err != nil {
		return err
	}
	if entries, err := os.ReadDir(h.keyring()); err != nil || len(entries) > 0 {
		return err
	}
	return os.WriteFile(filepath.Join(h.keyring(), "key.json"), keyOfTests, 0o600)
}

// furnish does what a person does first: it stores the key and, unless withSeed is false, the seed.
func (h *house) furnish(withSeed bool) error {
	if err := h.makeKeyring(); err != nil {
		return err
	}
	csv := fmt.Sprintf("Access key ID,Secret access key\n%s,%s\n", keyID, keySecret)
	file := filepath.Join(h.dir, "accessKeys.csv")
	if err := h.write(file, csv); err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	if r := h.run("broker", "add", "security", "--csv", file, "--mfa-serial", serial); r.code != 0 {
		return fmt.Errorf("add the key: %v", r)
	}
	if !withSeed {
		return nil
	}
	if r := h.runWith(seed+"\n", "broker", "mfa", "set", "security", "--seed-stdin"); r.code != 0 {
		return fmt.Errorf("store the seed: %v", r)
	}
	return nil
}

// demoConfig has the profiles that most tests use.
const demoConfig = `[profile product_prod_paul]
role_arn = ` + prodRole + `
source_profile = security
region = eu-west-1

[profile product_dev_paul]
role_arn = ` + devRole + `
source_profile = security
region = eu-central-1
`

// demo returns a house with key, seed, simulator and two profiles.
func demo(t testing.TB, simArgs ...string) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim(simArgs...))
	h.moveIn(t)
	return h
}

// moveIn writes the settings and profiles of demo, and stores key and seed.
func (h *house) moveIn(t testing.TB) {
	t.Helper()
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, h.furnish(true))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// result is how a program ended.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
}

// command prepares a program of the house to run as cron runs it: nobody can be asked for a code.
func (h *house) command(name string, args ...string) *exec.Cmd {
	if !strings.Contains(name, "/") {
		if own := filepath.Join(h.bin, name); isFile(own) {
			name = own
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = h.env, h.dir
	// Without a terminal, since otherwise the person who runs the tests would be asked for codes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if h.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(h.uid), Gid: uint32(h.uid)}
	}
	return cmd
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// run runs a program to its end. It repeats `status`, which gives the daemon only three seconds, if that was too
// short on a busy machine.
func (h *house) run(name string, args ...string) result {
	for limit := time.Now().Add(patience); ; {
		r := h.runWith("", name, args...)
		if !slices.Contains(args, "status") || !strings.Contains(r.stderr, "did not answer within") ||
			time.Now().After(limit) {
			return r
		}
	}
}

func (h *house) runWith(stdin, name string, args ...string) result {
	cmd := h.command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(cmd)
}

// finish runs a command to its end.
func finish(cmd *exec.Cmd) result { return finishWithin(90*time.Second, cmd) }

// finishWithin is finish for slower commands. It kills the command after limit.
func finishWithin(limit time.Duration, cmd *exec.Cmd) result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return result{stderr: err.Error(), code: -1}
	}
	watchdog := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	watchdog.Stop()
	return result{stdout.String(), stderr.String(), exitCode(cmd.ProcessState)}
}

// exitCode returns the exit code that a shell would report.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// ok runs a program that must succeed, and returns its output.
func (h *house) ok(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := h.run(name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
	}
	return r.stdout
}

// document is what credproc prints.
type document struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
	AccountID       string `json:"AccountId"`
}

func parseDocument(text string) (document, error) {
	var d document
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, fmt.Errorf("not a credential_process document: %w", err)
	}
	if d.Version != 1 || !strings.HasPrefix(d.AccessKeyID, "ASIA") || d.SecretAccessKey == "" || d.SessionToken == "" ||
		d.Expiration.IsZero() {
		return d, fmt.Errorf(
			"not a complete credential_process document: version %d, key %s, expires %v",
			d.Version,
			d.AccessKeyID,
			d.Expiration,
		)
	}
	return d, nil
}

// credentials asks credproc for a profile.
func (h *house) credentials(t testing.TB, profile string) document {
	t.Helper()
	d, err := parseDocument(h.ok(t, "credproc", profile))
	must(t, err)
	return d
}

// status is the part of `broker status --json` that the tests need.
type status struct {
	Running  bool  `json:"running"`
	PID      int   `json:"pid"`
	Locked   bool  `json:"locked"`
	Answered int64 `json:"answered"`
}

func (h *house) status() (status, error) {
	var s status
	r := h.run("broker", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		return s, fmt.Errorf("broker status --json: %w: %v", err, r)
	}
	return s, nil
}

func (h *house) daemonPID(t testing.TB) int {
	t.Helper()
	s, err := h.status()
	must(t, err)
	if !s.Running {
		t.Fatal("no daemon is running")
	}
	return s.PID
}

// stopDaemon ends the daemon, if there is one, as a service manager does.
func (h *house) stopDaemon() error {
	s, err := h.status()
	if err != nil || !s.Running {
		return err
	}
	if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if !alive(s.PID) {
			return nil
		}
	}
	return fmt.Errorf("the daemon %d did not end after SIGTERM", s.PID)
}

// until waits until so returns true. what describes the condition.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("this never happened: %s", what)
		}
	}
}

// ended waits for the end of a process.
func ended(t testing.TB, pid int) {
	t.Helper()
	until(t, fmt.Sprintf("process %d ends", pid), func() bool { return !alive(pid) })
}

// A zombie waits for the process that adopts orphans here; it is no longer our daemon.
func alive(pid int) bool {
	state := stateOf("/proc/" + strconv.Itoa(pid) + "/stat")
	return state != "" && state != "Z"
}

// halt stops a process, and returns when all of its threads have stopped: some run on for a moment after the signal.
func halt(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return err
	}
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if !slices.ContainsFunc(threads, func(path string) bool { return !strings.Contains("Tt", stateOf(path)) }) {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("the process %d did not stop", pid)
		}
	}
}

// suspend stops a process until resume, at the latest until the end of the test.
func suspend(t testing.TB, pid int) (resume func()) {
	t.Helper()
	must(t, halt(pid))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	return func() {
		t.Helper()
		must(t, syscall.Kill(pid, syscall.SIGCONT))
	}
}

// stateOf returns the letter of a process or thread, see proc_pid_stat(5), or "" if it has ended.
func stateOf(stat string) string {
	text, err := os.ReadFile(stat)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text[bytes.LastIndexByte(text, ')')+1:])[:1])
}

type process struct {
	pid  int
	line string
}

// processes lists the processes of this house. The programs are not dumpable, so only root can read their
// environment, but everybody can read their command line.
func (h *house) processes() []process {
	var list []process
	for _, p := range allProcesses() {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if (strings.HasPrefix(p.line, h.bin+"/") || bytes.Contains(environ, []byte("HOME="+h.home+"\x00"))) && alive(p.pid) {
			list = append(list, p)
		}
	}
	return list
}

func allProcesses() []process {
	names, _ := filepath.Glob("/proc/[0-9]*")
	var list []process
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(name + "/cmdline")
		if err != nil || len(line) == 0 {
			continue
		}
		list = append(list, process{pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))})
	}
	return list
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

func isStopped(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// answerAll calls answer for each connection to a listener, until the listener is closed.
func answerAll(l net.Listener, answer func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		answer(conn)
	}
}
