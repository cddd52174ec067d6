//go:build clients

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// engine is a machine with podman, where Broker runs with the files of a house.
type engine struct {
	*machine
	h   *house
	uid int
	env []string
}

// newEngine moves a house to a machine with podman, for root or for the person me, whose podman is rootless.
func newEngine(t *testing.T, h *house, uid int) *engine {
	t.Helper()
	need(t, filepath.Join(clientsDir, "node_modules/@aws-sdk/client-sts/package.json"),
		filepath.Join(clientsDir, "node_modules/@devcontainers/cli/package.json"), "node", "podman", "podman-compose", "crun", "newuidmap", "setpriv", "nsenter", "/usr/bin/aws")
	must(t, h.stopDaemon())
	h.give(t, uid)
	t.Cleanup(func() { h.give(t, 0) }) // after the machine is off
	e := &engine{h: h, uid: uid, machine: newMachine(t, `
mkdir -p -m 700 /run/user/0 /run/clients
mount --bind /dev/null /etc/resolv.conf # no tool asks another machine
mount --bind "$DIR/subid" /etc/subuid
mount --bind "$DIR/subid" /etc/subgid
if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi # crun refuses hybrid cgroups
if [ -d '`+clientsDir+`' ]; then mount --bind '`+clientsDir+`' /run/clients; fi
`)}
	// Containers have the network of the machine, for the simulator, and its programs. They have no other files of it.
	files := filepath.Join(e.dir, "clients")
	must(t, os.CopyFS(files, os.DirFS("testdata/clients")))
	must(t, linkOrCopy(selfProgram(t), filepath.Join(files, "raw")))
	storage := filepath.Join(e.dir, "storage")
	must(t, os.Mkdir(storage, 0o755))
	must(t, os.Chown(storage, uid, uid))
	must(t, os.WriteFile(filepath.Join(e.dir, "containers.conf"), fmt.Appendf(nil, `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
volumes = ["/usr:/usr:ro", "%s:/clients:ro", "/run/clients:/npm:ro"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
`, files), 0o644))
	must(t, os.WriteFile(filepath.Join(e.dir, "storage.conf"), fmt.Appendf(nil,
		"[storage]\ndriver = \"vfs\"\ngraphroot = \"%s/graph\"\nrunroot = \"/run/user/%d/containers\"\n", storage, uid), 0o644))
	e.env = append(h.env, fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", uid),
		"CONTAINERS_CONF="+filepath.Join(e.dir, "containers.conf"), "CONTAINERS_STORAGE_CONF="+filepath.Join(e.dir, "storage.conf"))
	// The pages write docker, whose command line podman has too.
	for name, script := range map[string]string{
		"docker": `if [ "$1" = compose ]; then shift; exec podman-compose --podman-path ` + filepath.Join(h.bin, "sharing") + ` "$@"; fi
exec podman "$@"`,
		// sharing is podman for podman-compose, which would make a network.
		"sharing": `if [ "$1" = network ]; then exit; fi
for word; do
	shift
	case $word in
	--net | --network-alias) skip=yes ;;
	*) if [ -z "$skip" ]; then set -- "$@" "$word"; fi; skip= ;;
	esac
done
exec podman "$@"`,
	} {
		must(t, os.WriteFile(filepath.Join(h.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}

	image := filepath.Join(e.dir, "image")
	for _, dir := range []string{"bin", "tmp", "run", "etc", "proc", "dev", "sys", "usr"} {
		must(t, os.MkdirAll(filepath.Join(image, dir), 0o755))
	}
	must(t, os.Chmod(filepath.Join(image, "tmp"), 0o777|os.ModeSticky))
	for link, to := range map[string]string{"lib": "usr/lib", "lib64": "usr/lib64", "bin/sh": "/usr/bin/dash"} {
		must(t, os.Symlink(to, filepath.Join(image, link)))
	}
	// The AWS CLI of Debian takes another endpoint as an option only.
	must(t, os.WriteFile(filepath.Join(image, "bin/aws"), []byte("#!/bin/sh\nexec /usr/bin/aws \"$@\" --endpoint-url "+h.sim.url+"\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(image, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(image, "etc/group"), []byte("root:x:0:\n"), 0o644))
	e.image(t, image, "tools")
	e.image(t, image, "amazon/aws-cli", "--change", `ENTRYPOINT ["/bin/aws"]`)
	empty := filepath.Join(e.dir, "empty")
	must(t, os.MkdirAll(filepath.Join(empty, "run"), 0o755))
	e.image(t, empty, "empty")
	return e
}

// image makes an image of a directory.
func (e *engine) image(t *testing.T, dir, name string, more ...string) {
	t.Helper()
	tar, err := exec.Command("tar", "--owner=0", "--group=0", "-C", dir, "-c", ".").Output()
	must(t, err)
	cmd := e.command("podman " + quoted(append(append([]string{"import", "-q"}, more...), "-", "localhost/"+name)...))
	cmd.Stdin = bytes.NewReader(tar)
	if r := finish(cmd); r.code != 0 {
		t.Fatalf("podman import: %v", r)
	}
}

// command prepares a command line of the person of the engine.
func (e *engine) command(line string) *exec.Cmd {
	id := fmt.Sprint(e.uid)
	cmd := e.root("setpriv", "--reuid="+id, "--regid="+id, "--clear-groups", "/bin/sh", "-c", line)
	cmd.Env = e.env
	return cmd
}

func (e *engine) run(line string) result { return finish(e.command(line)) }

func (e *engine) ok(t *testing.T, line string) string {
	t.Helper()
	r := e.run(line)
	if r.code != 0 {
		t.Fatalf("$ %s: %v", line, r)
	}
	return r.stdout
}

func quoted(words ...string) string {
	var list []string
	for _, w := range words {
		list = append(list, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(list, " ")
}

// inContainer returns a command line that runs a script in a container of the image tools, as docs/containers.md says.
func inContainer(options, script string) string {
	return "broker exec --door " + dev + " -- sh -c " + quoted(`exec podman run --rm -i -v "$BROKER_DOOR:/run/broker:ro" --env-file "$BROKER_DOOR/env" `+
		options+" tools sh -c "+quoted(script))
}

// lookAround is what a curious program in a container tries. It prints a line for each thing.
func (e *engine) lookAround() string {
	js := "NODE_NO_WARNINGS=1 NODE_PATH=/npm/node_modules NODE_OPTIONS='--require /clients/redirect.js' EMULATOR=" + e.h.sim.url + " node /clients/js3.js"
	return `cd /tmp
id -u
echo "helper $(/run/broker/credproc ` + dev + ` | grep -c SecretAccessKey)"
echo "aws $(/bin/aws sts get-caller-identity --output text --query Arn)"
echo "boto3 $(/usr/bin/python3 -c 'import boto3, sys
print(boto3.client("sts", endpoint_url=sys.argv[1]).get_caller_identity()["Arn"])' ` + e.h.sim.url + `)"
echo "js3 $(` + js + ` 2>&1)"
for name in ` + prod + ` security nobody; do
	/run/broker/credproc $name >out 2>err; echo "$name $? $(cat out) $(sed s/$name/NAME/g err | head -1)"
done
for path in ` + quoted(e.h.home, e.h.dir, e.h.socket(), "/run/user", fmt.Sprintf("/run/user/%d/broker", e.uid)) + ` /root/.aws ~/.aws; do
	if [ -e $path ]; then echo "FOUND $path"; fi
done
find / -xdev \( -name broker.sock -o -name keyring -o -name '.aws' \) 2>/dev/null | sed 's/^/FOUND /'
env | grep -E '^(AWS|BROKER)_' | sort
ls -lan /run/broker
touch /run/broker/x 2>/dev/null && echo WRITABLE
true`
}

// TestClientsPodman lends a profile to containers of podman, of root and of a person without privileges: to root in the
// container, to another uid, under one's own uid, and with a map of users that does not know who opened the door.
func TestClientsPodman(t *testing.T) {
	t.Parallel()
	for _, who := range []struct {
		name    string
		uid     int
		options []string
	}{
		{"rootless", me, []string{"", "--user 1000", "--userns=keep-id", "--read-only --tmpfs /tmp --cap-drop all"}},
		{"root", 0, []string{"", "--user 1000", "--uidmap 0:100000:65536 --gidmap 0:100000:65536"}},
	} {
		t.Run(who.name, func(t *testing.T) {
			t.Parallel()
			h := doorHouse(t)
			e := newEngine(t, h, who.uid)
			for _, options := range who.options {
				r := e.run(inContainer(options, e.lookAround()))
				if r.code != 0 {
					t.Errorf("podman run %s: %v", options, r)
				}
				for _, want := range []string{"helper 1", "aws " + devARN, "boto3 " + devARN, "js3 " + devARN} {
					if !strings.Contains(r.stdout, "\n"+want) {
						t.Errorf("podman run %s: no %q: %v", options, want, r)
					}
				}
				// The helper needs nothing of the image, not even a library.
				bare := e.run("broker exec --door " + dev + " -- sh -c " + quoted(`exec podman run --rm -v "$BROKER_DOOR:/run/broker:ro" `+
					options+" --env BROKER_DOOR=/run/broker empty /run/broker/credproc "+dev))
				if _, err := parseDocument(bare.stdout); err != nil {
					t.Errorf("podman run %s in an empty image: %v: %v", options, err, bare)
				}
				for _, never := range []string{"FOUND", "WRITABLE", "AKIA", h.dir} {
					if strings.Contains(r.stdout, never) {
						t.Errorf("podman run %s: %s: %v", options, never, r)
					}
				}
			}
		})
	}
}

// TestClientsPodmanPage runs every line of docs/containers.md with --door, as root and as another person.
func TestClientsPodmanPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/containers.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(page), "\n## Lend a profile to a container\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for _, uid := range []int{0, me} {
		t.Run(fmt.Sprint(uid), func(t *testing.T) {
			t.Parallel()
			h := doorHouse(t)
			text, err := os.ReadFile(h.awsConfig())
			must(t, err)
			must(t, h.write(h.awsConfig(), string(text)+"\n[profile dev]\nrole_arn = "+devRole+"\nsource_profile = security\nregion = eu-central-1\n"))
			e := newEngine(t, h, uid)
			ran := map[string]bool{}
			for _, m := range regexp.MustCompile("(?ms)^```(?:console|text)\n(.*?)^```").FindAllStringSubmatch(section, -1) {
				word := strings.Fields(m[1])[0] // by which a person knows what to do with the block
				ran[word] = true
				switch word {
				case "$":
					for _, line := range typedIn(m[1]) {
						e.ok(t, line)
					}
				case "broker":
					e.identity(t, m[1])
				case "services:":
					e.file(t, "compose.yaml", m[1])
					e.identity(t, sentence(t, section, "broker exec --door dev -- docker compose up"))
				case `"mounts":`:
					e.file(t, ".devcontainer/devcontainer.json", "{\n\"image\": \"localhost/amazon/aws-cli\",\n"+m[1]+"}\n")
					const cli = "/usr/bin/node /run/clients/node_modules/.bin/devcontainer "
					e.identity(t, strings.Replace(sentence(t, section, "broker exec --door dev -- code --wait ."), "code --wait .",
						"sh -c "+quoted("set -e; "+cli+"up --docker-path podman --workspace-folder . >&2; "+
							cli+"exec --docker-path podman --workspace-folder . /bin/aws sts get-caller-identity"), 1))
				default:
					t.Errorf("no test runs this block:\n%s", m[1])
				}
			}
			if len(ran) != 4 {
				t.Errorf("the section has only the blocks %v", ran)
			}
			e.ok(t, "podman rm -f -t 0 -a")
		})
	}
}

// sentence returns a command, which must be in a sentence of a page.
func sentence(t *testing.T, page, command string) string {
	t.Helper()
	if !strings.Contains(page, "`"+command+"`") {
		t.Errorf("the page does not say %s", command)
	}
	return command
}

// file writes a file in the directory work of the person.
func (e *engine) file(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(e.h.home, "work", name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
	e.h.give(t, e.uid)
}

// identity runs a command line that must show the role of dev.
func (e *engine) identity(t *testing.T, line string) {
	t.Helper()
	if r := e.run("mkdir -p ~/work && cd ~/work && " + line); r.code != 0 || !strings.Contains(r.stdout, devARN) {
		t.Errorf("$ %s: %v", line, r)
	}
}

// TestClientsOnly lends a profile to a command such as a coding agent: AWS tools get it with the policy ReadOnlyAccess,
// and nothing else, also with the AWS files of the person.
func TestClientsOnly(t *testing.T) {
	t.Parallel()
	need(t, "/usr/bin/aws")
	h := doorHouse(t)
	text, err := os.ReadFile(h.awsConfig())
	must(t, err)
	// Linked profiles: the roles are in the registry, and AWS tools ask credproc.
	must(t, h.settings("[source security]\naccess_key_id = "+keyID+"\nmfa_serial = "+serial+"\nmfa_seed = keyring\n"+string(text)))
	must(t, h.write(h.awsConfig(), asking(filepath.Join(h.bin, "credproc"), dev, prod, "security")))
	asked, err := h.sim.requests()
	must(t, err)
	in := func(script string) result {
		return h.run("broker", "exec", "--only", dev, "--read-only", "--", "/bin/sh", "-c", script)
	}
	const mine = "unset AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE; "
	boto3 := fmt.Sprintf("/usr/bin/python3 -c %s '' %s", quoted(botoProgram), h.sim.url)
	for _, c := range []struct {
		script, code string
		says         string
	}{
		{h.identity(dev), "0", devARN},
		{boto3, "0", devARN},
		{mine + h.identity(dev), "0", devARN},
		{h.identity(prod), "255", "could not be found"},
		{mine + h.identity(prod), "255", "this door lends " + dev},
		{mine + h.identity("security"), "255", "this door lends " + dev},
		{"broker login security", "2", "door"},
		{"broker logout", "2", "door"},
		{"broker lock", "2", "door"},
		{"broker allow " + prod + " --for 1h", "2", "door"},
		{"broker forward " + prod + " --for 1h", "2", "door"},
		{"broker exec --only " + prod + " -- true", "2", "door"},
		{"broker export " + prod, "3", "door"},
	} {
		r := in(c.script)
		if fmt.Sprint(r.code) != c.code || !strings.Contains(r.stdout+r.stderr, c.says) {
			t.Errorf("$ %s: %v", c.script, r)
		}
	}
	requests, err := h.sim.requests()
	must(t, err)
	roles := 0
	for _, r := range requests[len(asked):] {
		if r.Action != "AssumeRole" {
			continue
		}
		roles++
		if !strings.Contains(r.RoleARN, devAccount) || r.Params["PolicyArns.member.1.arn"] != "arn:aws:iam::aws:policy/ReadOnlyAccess" {
			t.Errorf("assumed %s with %v", r.RoleARN, r.Params)
		}
	}
	if roles == 0 {
		t.Error("no role was assumed: the test is void")
	}
	// A program of the same user can get round this, and the audit log shows it.
	if r := in("unset BROKER_DOOR; " + mine + "credproc " + prod); r.code != 0 {
		t.Errorf("without BROKER_DOOR: %v", r)
	}
	if log := h.ok(t, "broker", "log"); !strings.Contains(log, prod) {
		t.Errorf("the log does not show %s:\n%s", prod, log)
	}
}

// TestClientsPodmanGoesOn keeps a container while the daemon is replaced, while Broker is locked, and until its command
// ends. The socket in it answers no verb but ping and get.
func TestClientsPodmanGoesOn(t *testing.T) {
	t.Parallel()
	h := doorHouse(t)
	e := newEngine(t, h, me)
	s, r := typing(t, e.command(inContainer("", "exec sh")))
	if s == nil {
		t.Fatal(r)
	}
	get := func(code int, what string) {
		t.Helper()
		if r := s.run("/run/broker/credproc " + dev + " 2>&1"); r.code != code {
			t.Errorf("%s: %v", what, r)
		}
	}
	get(0, "at first")
	inode := s.run("stat -c %i /run/broker").stdout

	// What a program in the container sends, as root there.
	lines := verbLines(t)
	r = s.run("printf '%s\n' " + quoted(lines...) + " | E2E_ROLE=raw /clients/raw /run/broker/socket")
	answers := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(answers) != len(lines) {
		t.Fatalf("%d answers to %d lines: %v", len(answers), len(lines), r)
	}
	for i, line := range answers {
		var a answer
		if strings.HasPrefix(line, "ERROR ") { // closed without an answer
			continue
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil || a.Error.Kind == "" {
			t.Errorf("%s: %s", lines[i], line)
		}
	}

	before := e.ok(t, "broker status --json")
	e.ok(t, "broker daemon --replace --background")
	if now := e.ok(t, "broker status --json"); pidIn(t, now) == pidIn(t, before) {
		t.Fatal("the daemon was not replaced: the test is void")
	}
	get(0, "after a restart")
	if now := s.run("stat -c %i /run/broker").stdout; now != inode {
		t.Errorf("the directory is another one: inode %s, was %s", now, inode)
	}
	e.ok(t, "broker daemon --stop")
	e.ok(t, "broker status --json; broker login security") // starts the next one
	get(0, "after the daemon ended")
	e.ok(t, "broker lock")
	get(7, "while Broker is locked")
	e.ok(t, "broker unlock")
	get(0, "after unlock")
	if list := e.ok(t, "broker forward list"); !strings.Contains(list, dev) {
		t.Errorf("the doors:\n%s", list)
	}
	if r := s.exit(); r.code != 0 {
		t.Errorf("podman ended with %v", r)
	}
	until(t, "the door goes with its command", func() bool {
		return e.run("ls -A /run/user/12345/broker/doors").stdout == ""
	})
	if list := e.ok(t, "broker forward list"); strings.Contains(list, dev) {
		t.Errorf("the doors:\n%s", list)
	}
}

func pidIn(t *testing.T, text string) int {
	t.Helper()
	var s status
	must(t, json.Unmarshal([]byte(text), &s))
	return s.PID
}
