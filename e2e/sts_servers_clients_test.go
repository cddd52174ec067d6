//go:build clients

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests use other projects' servers in the place of AWS's STS. See docs/tools.md.

const (
	otherID     = "PAULPAULPAULPAULPAUL"
	otherSecret = "fake/other+secret/of+paul/fake/other+222"
)

// freePorts returns n loopback ports that were free a moment ago.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// startServer starts a server that ends with the test, and writes its output to a file next to its data.
func startServer(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".out"))
	must(t, err)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir // moto writes its recording there
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "MOTO_IAM_LOAD_MANAGED_POLICIES=true"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s", name, tail(text, 2000))
		}
	})
}

// answers waits until a server answers.
func answers(t *testing.T, url string) {
	t.Helper()
	until(t, url+" answers", func() bool {
		resp, err := http.Get(url)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
}

// cephConf is a cluster of one monitor, one in-memory disk and one gateway.
const cephConf = `[global]
fsid = %[1]s
mon host = [v2:127.0.0.1:%[3]d,v1:127.0.0.1:%[4]d]
keyring = %[2]s/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
run dir = %[2]s
admin socket = %[2]s/$name.asok
log file = %[2]s/$name.log
mon cluster log file = %[2]s/cluster.log
pid file =
mon data = %[2]s/mon
osd data = %[2]s/osd
osd objectstore = memstore
memstore device bytes = 268435456
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:%[5]d
rgw sts key = abcdefghijklmnop
rgw s3 auth use sts = true
`

// startCeph starts a gateway with the user paul and a role that paul may assume, and returns its URL.
func startCeph(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"ceph-mon", "ceph-osd", "radosgw", "ceph", "radosgw-admin"} {
		if len(installed(program)) == 0 {
			missing(t, "Ceph ("+program+")")
		}
	}
	// The path of an admin socket must be short.
	dir, err := os.MkdirTemp("", "ceph")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	must(t, err)
	fsid := strings.TrimSpace(string(id))
	ports := freePorts(t, 3)
	for _, sub := range []string{"mon", "osd"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	conf := filepath.Join(dir, "ceph.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, cephConf, fsid, dir, ports[0], ports[1], ports[2]), 0o600))
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CEPH_CONF=" + conf}
		if r := finish(cmd); r.code != 0 {
			t.Fatalf("%s %s: %v", name, strings.Join(args, " "), r)
		}
	}
	keys, monmap := filepath.Join(dir, "keyring"), filepath.Join(dir, "monmap")
	run("ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	for _, name := range []string{"client.admin", "client.rgw", "osd.0"} {
		run("ceph-authtool", keys, "--gen-key", "-n", name, "--cap", "mon", "allow *", "--cap", "osd", "allow *")
	}
	run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
		fmt.Sprintf("[v2:127.0.0.1:%d,v1:127.0.0.1:%d]", ports[0], ports[1]), monmap)
	run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keys)
	startServer(t, dir, "ceph-mon", "-c", conf, "-i", "a", "-f")
	run("ceph", "-c", conf, "--connect-timeout", "60", "osd", "new", fsid, "0")
	run("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", fsid)
	startServer(t, dir, "ceph-osd", "-c", conf, "-i", "0", "-f")
	startServer(t, dir, "radosgw", "-c", conf, "-n", "client.rgw", "-f")
	url := "http://127.0.0.1:" + strconv.Itoa(ports[2])
	answers(t, url)
	admin := func(args ...string) { t.Helper(); run("radosgw-admin", append([]string{"-c", conf}, args...)...) }
	admin("user", "create", "--uid", "paul", "--display-name", "Paul", "--access-key", otherID, "--secret-key", otherSecret)
	admin("role", "create", "--role-name=S3Access", "--path=/application/", `--assume-role-policy-doc={"Version":"2012-10-17",`+
		`"Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/paul"]},"Action":["sts:AssumeRole"]}]}`)
	admin("role-policy", "put", "--role-name=S3Access", "--policy-name=all", `--policy-doc={"Version":"2012-10-17",`+
		`"Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":"arn:aws:s3:::*"}]}`)
	return url
}

// otherSTS returns a house with a source whose STS is at url, and profiles for its roles.
func otherSTS(t *testing.T, url string, more string) *house {
	t.Helper()
	h := newHouse(t)
	h.env = append(h.env, "AWS_ACCESS_KEY_ID="+otherID, "AWS_SECRET_ACCESS_KEY="+otherSecret, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=")
	if home, err := os.UserHomeDir(); err == nil {
		h.env = append(h.env, "PYENV_ROOT="+filepath.Join(home, ".pyenv"))
	}
	must(t, h.settings("[source other]\naccess_key_id = "+otherID+"\nendpoint_url = "+url+"\nsts_compatible = true\n"+more))
	return h
}

// TestClientsCeph tests Ceph's gateway, which supports neither GetCallerIdentity nor GetSessionToken.
func TestClientsCeph(t *testing.T) {
	aws := append(installed("aws"), "")[0]
	if aws == "" {
		missing(t, "the AWS CLI (aws)")
	}
	url := startCeph(t)
	h := otherSTS(t, url, "session = none\n")
	must(t, h.write(h.awsConfig(), "[profile rgw]\nrole_arn = arn:aws:iam:::role/application/S3Access\nsource_profile = other\n"+
		"region = us-east-1\n[profile nothing]\nrole_arn = arn:aws:iam:::role/nothing\nsource_profile = other\n"))
	if r := h.run("broker", "add", "other", "--from-env"); r.code != 1 || !strings.Contains(r.stderr, "hint: broker add other --no-verify\n") {
		t.Errorf("a check that Ceph does not support: %v", r)
	}
	h.ok(t, "broker", "add", "other", "--from-env", "--no-verify")
	var doc struct {
		AccessKeyID string `json:"AccessKeyId"`
		AccountID   string `json:"AccountId"`
	}
	must(t, json.Unmarshal([]byte(h.ok(t, "credproc", "rgw")), &doc))
	if doc.AccessKeyID == "" || doc.AccessKeyID == otherID || doc.AccountID != "" {
		t.Errorf("%+v", doc)
	}
	h.ok(t, "broker", "exec", "rgw", "--", aws, "--endpoint-url", url, "s3api", "create-bucket", "--bucket", "of-the-role")
	out := h.ok(t, "broker", "exec", "--mode", "server", "rgw", "--", aws, "--endpoint-url", url, "s3api", "list-buckets")
	if !strings.Contains(out, `"of-the-role"`) {
		t.Errorf("the buckets: %s", out)
	}
	if r := h.run("credproc", "nothing"); r.code == 0 || !strings.Contains(r.stderr, "NoSuchEntity") {
		t.Errorf("a role that does not exist: %v", r)
	}
	if r := h.run("credproc", "other"); r.code != 1 || !strings.Contains(r.stderr, "session = none") {
		t.Errorf("the source itself: %v", r)
	}
	for _, strict := range []string{"", "sts_compatible = false\n"} {
		must(t, h.settings("[source other]\naccess_key_id = "+otherID+"\nendpoint_url = "+url+"\nsession = none\n"+strict))
		if r := h.run("credproc", "rgw"); r.code != 1 || !strings.Contains(r.stderr, "role_arn is not arn:aws:iam::ACCOUNT:role/NAME") {
			t.Errorf("without sts_compatible: %v", r)
		}
	}
}

// startMoto starts moto's server and returns its URL.
func startMoto(t *testing.T) string {
	t.Helper()
	program := filepath.Join(clientsDir, "moto", "bin", "moto_server")
	if !isFile(program) {
		if program = append(installed("moto_server"), "")[0]; program == "" {
			missing(t, "moto_server")
		}
	}
	port := strconv.Itoa(freePorts(t, 1)[0])
	startServer(t, t.TempDir(), program, "-H", "127.0.0.1", "-p", port)
	url := "http://127.0.0.1:" + port
	answers(t, url+"/moto-api/")
	return url
}

// TestClientsMotoSource tests a source at moto, which reports a key's owner as a user of sts and names sessions in
// its own way.
func TestClientsMotoSource(t *testing.T) {
	h := otherSTS(t, startMoto(t), "")
	must(t, h.write(h.awsConfig(), "[profile one]\nrole_arn = arn:aws:iam::123456789012:role/path/one\nsource_profile = other\n"+
		"[profile two]\nrole_arn = arn:aws:iam::210987654321:role/two\nsource_profile = one\n"))
	if out := h.ok(t, "broker", "add", "other", "--from-env"); !strings.Contains(out, "user/moto") {
		t.Errorf("the owner of the key: %s", out)
	}
	for profile, account := range map[string]string{"other": "", "one": "123456789012", "two": "210987654321"} {
		var d document
		must(t, json.Unmarshal([]byte(h.ok(t, "credproc", profile)), &d))
		if d.AccountID != account || d.SessionToken == "" || time.Until(d.Expiration) < 30*time.Minute {
			t.Errorf("%s: account %s, until %s", profile, d.AccountID, d.Expiration)
		}
	}
}

// TestClientsMotoRecording compares what moto got, word for word: tags, source identity and ReadOnlyAccess, and without
// the policy but with the reason while the profile is elevated. The vault signs the first role, the daemon the second.
func TestClientsMotoRecording(t *testing.T) {
	moto := startMoto(t)
	h := otherSTS(t, moto, "")
	must(t, h.settings("sts_endpoint = "+moto+"\n[source other]\naccess_key_id = "+otherID+`
[profile base]
role_arn = arn:aws:iam::123456789012:role/base
source_profile = other
read_only = true
source_identity = paul
session_tags = team=web, by={program}
transitive_tags = team
[profile reader]
role_arn = arn:aws:iam::210987654321:role/path/reader
source_profile = base
read_only = true
session_tags = why={reason}
[profile agents]
role_arn = arn:aws:iam::123456789012:role/agents
source_profile = other
agents = read-only
`))
	h.ok(t, "broker", "add", "other", "--from-env", "--no-verify")
	get := func(what string) string {
		t.Helper()
		resp, err := http.Get(moto + "/moto-api/recorder/" + what)
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", what, resp.Status, body)
		}
		return string(body)
	}
	// asked returns the parameters of the AssumeRole calls that a command makes.
	asked := func(argv ...string) (calls []map[string]string) {
		t.Helper()
		get("reset-recording")
		get("start-recording")
		h.ok(t, argv[0], argv[1:]...)
		get("stop-recording")
		for line := range strings.Lines(get("download-recording")) {
			var r struct{ Body string }
			must(t, json.Unmarshal([]byte(line), &r))
			body, err := base64.StdEncoding.DecodeString(r.Body)
			must(t, err)
			form, err := url.ParseQuery(string(body))
			must(t, err)
			if form.Get("Action") != "AssumeRole" {
				continue
			}
			call := map[string]string{}
			for name, values := range form {
				call[name] = strings.Join(values, "|")
			}
			for _, name := range []string{"Action", "Version", "DurationSeconds", "RoleSessionName"} {
				delete(call, name)
			}
			calls = append(calls, call)
		}
		return calls
	}
	const policy, readOnly = "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"
	base := map[string]string{
		"RoleArn": "arn:aws:iam::123456789012:role/base", "SourceIdentity": "paul",
		"Tags.member.1.Key": "team", "Tags.member.1.Value": "web",
		"Tags.member.2.Key": "by", "Tags.member.2.Value": "broker", "TransitiveTagKeys.member.1": "team",
	}
	reader := map[string]string{
		"RoleArn":           "arn:aws:iam::210987654321:role/path/reader",
		"Tags.member.1.Key": "why", "Tags.member.1.Value": "", policy: readOnly,
	}
	expect := func(got []map[string]string, want ...map[string]string) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("moto got\n%v, want\n%v", got, want)
		}
	}
	expect(asked("broker", "exec", "reader", "--", "true"), base, reader)
	limited := maps.Clone(base)
	limited[policy] = readOnly
	expect(asked("broker", "exec", "base", "--", "true"), limited)

	h.ok(t, "broker", "elevate", "reader", "--for", "15m", "--reason", "INC-123 by hand", "--everywhere")
	delete(reader, policy)
	reader["Tags.member.1.Value"] = "INC-123 by hand"
	expect(asked("broker", "exec", "reader", "--", "true"), reader)
	h.ok(t, "broker", "deny", "reader", "--everywhere")
	expect(asked("broker", "exec", "reader", "--", "true")) // the read-only session again

	// A coding agent gets a session of its own, whatever a person has.
	full := map[string]string{"RoleArn": "arn:aws:iam::123456789012:role/agents"}
	expect(asked("broker", "exec", "agents", "--", "true"), full)
	limited = maps.Clone(full)
	limited[policy] = readOnly
	expect(asked("env", "CLAUDECODE=1", "broker", "exec", "agents", "--", "true"), limited)
	expect(asked("env", "GEMINI_CLI=1", "broker", "exec", "agents", "--", "true"))
	expect(asked("broker", "exec", "agents", "--", "true"))
}
