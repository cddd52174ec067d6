//go:build clients

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// typed is the profile for the tools, as a person types it.
const typed = "product_prod_paul"

// A way is how a tool gets its credentials. before and after are broker's arguments before and after the run.
type way struct {
	name          string
	exec          []string // the words before the command
	named         bool     // the command names the profile
	before, after []string
}

// ways are the ways that Broker supports; a row of toolTable lists those that a tool is tested with.
var ways = []way{
	{name: "credential_process", named: true},
	{name: "env", exec: []string{"broker", "exec", typed, "--"}},
	{name: "server", exec: []string{"broker", "exec", "--mode", "server", typed, "--"}},
	{name: "file", exec: []string{"broker", "exec", "--mode", "file", typed, "--"}, named: true},
	{name: "publish", named: true, before: []string{"broker", "publish", typed}, after: []string{"broker", "unpublish", typed}},
}

// A client is one tool, and how to start it.
type client struct {
	name    string
	program func(t *testing.T, h *house) string // returns "" if the tool is missing
	// args returns its arguments with a profile, or without one if the tool uses the environment. Words NAME=value
	// at the start go into its environment.
	args func(h *house, e *emulator, profile, way string) []string
	// says is a text in its output; if it is empty, only the requests are checked.
	says string
	// asks are requests that must arrive.
	asks []string
	// tried are the ways to test; nil means all.
	tried []string
	// fresh means that what it deploys was never deployed before.
	fresh bool
	// cannot maps each way that does not work to what the tool then says.
	cannot map[string]string
}

func onPath(name string) func(*testing.T, *house) string {
	return func(*testing.T, *house) string { return append(installed(name), "")[0] }
}

// fromNPM finds a file of the npm packages that `make deps-clients` installs.
func fromNPM(path string) func(*testing.T, *house) string {
	return func(*testing.T, *house) string {
		file := filepath.Join(clientsDir, "node_modules", path)
		if _, err := os.Stat(file); err != nil {
			return ""
		}
		return file
	}
}

// ours returns one of our own programs for an npm library.
func ours(file, library string) func(*testing.T, *house) string {
	return func(t *testing.T, h *house) string {
		if fromNPM(library)(t, h) == "" {
			return ""
		}
		path, err := filepath.Abs(filepath.Join("testdata/clients", file))
		must(t, err)
		return path
	}
}

// clientsDir is the directory of those packages. It is determined before a test changes HOME.
var clientsDir = func() string {
	if dir := os.Getenv("BROKER_CLIENTS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "broker-clients")
}()

func naming(name, profile string) []string {
	if profile == "" {
		return nil
	}
	return []string{name, profile}
}

func variable(name, profile string) []string {
	if profile == "" {
		return nil
	}
	return []string{name + "=" + profile}
}

// sls returns the arguments for one command of Serverless Framework or of osls.
func sls(words ...string) func(*house, *emulator, string, string) []string {
	return func(_ *house, _ *emulator, profile, _ string) []string {
		return slices.Concat(words, []string{"--stage", "prod", "--region", "eu-west-1"}, naming("--aws-profile", profile))
	}
}

const prodARN = "assumed-role/allow-admin-from-security-account/"

// deployed are the requests that every first deployment makes: a stack, and its contents.
var deployed = []string{"PUT product-deployments.s3.", " CreateChangeSet CREATE", " CreateChangeSet UPDATE", " ExecuteChangeSet", " DescribeStackEvents"}

// toolTable is the content of docs/tools.md: what works, and what cannot.
var toolTable = []client{
	{
		name: "AWS CLI", program: onPath("aws"), says: prodARN, asks: []string{"GetCallerIdentity"},
		args: func(_ *house, e *emulator, profile, _ string) []string {
			return append([]string{"sts", "get-caller-identity", "--region", "eu-west-1", "--endpoint-url", e.url}, naming("--profile", profile)...)
		},
	},
	{
		name: "boto3", program: pythonWithBoto, says: prodARN, asks: []string{"GetCallerIdentity"},
		args: func(_ *house, e *emulator, profile, _ string) []string {
			return []string{"-c", botoProgram, profile, e.url}
		},
	},
	{
		name: "JS SDK 2", program: ours("js2.js", "aws-sdk"), says: prodARN, asks: []string{"GetCallerIdentity"},
		args: func(_ *house, _ *emulator, profile, way string) []string {
			if way == "credential_process" { // exec --mode file sets it, and the credentials file does not need it
				return []string{"AWS_SDK_LOAD_CONFIG=1", "AWS_PROFILE=" + profile}
			}
			return variable("AWS_PROFILE", profile)
		},
	},
	{
		name: "JS SDK 3", program: ours("js3.js", "@aws-sdk/client-sts"), says: prodARN, asks: []string{"GetCallerIdentity"},
		args: func(_ *house, _ *emulator, profile, _ string) []string { return []string{profile} },
	},
	{
		name: "Go SDK 2", program: func(*testing.T, *house) string { self, _ := os.Executable(); return self },
		says: prodARN, asks: []string{"GetCallerIdentity"},
		args: func(_ *house, e *emulator, profile, _ string) []string {
			return append([]string{"E2E_ROLE=go-sdk", "EMULATOR=" + e.url, "AWS_REGION=eu-west-1"}, variable("AWS_PROFILE", profile)...)
		},
	},
	{
		name: "Serverless 3 info", program: fromNPM("serverless/bin/serverless.js"), args: sls("info"), says: "product", asks: []string{" DescribeStacks"},
		tried: []string{"file", "publish"},
	},
	{
		name: "Serverless 3 package", program: fromNPM("serverless/bin/serverless.js"), args: sls("package"), asks: []string{"GetCallerIdentity"},
		tried: []string{"file", "publish"},
	},
	{
		name: "Serverless 3 deploy", program: fromNPM("serverless/bin/serverless.js"), args: sls("deploy"), asks: deployed, fresh: true,
		cannot: map[string]string{"credential_process": "doesn't seem to be configured"},
	},
	{name: "osls 4 deploy", program: fromNPM("osls/bin/serverless.js"), args: sls("deploy"), asks: deployed, fresh: true, tried: []string{"credential_process", "env"}},
	{
		name: "CDK 2 deploy", program: fromNPM("aws-cdk/bin/cdk"), asks: []string{" CreateChangeSet", " ExecuteChangeSet", "GetCallerIdentity"},
		tried: []string{"credential_process", "env"},
		args: func(h *house, _ *emulator, profile, _ string) []string {
			return append([]string{"deploy", "--app", filepath.Join(h.dir, "cdk"), "--require-approval", "never", "--ci", "--no-notices", "--no-version-reporting", "--no-color"}, naming("--profile", profile)...)
		},
	},
	{
		name: "rclone", program: onPath("rclone"), asks: []string{"GET 127.0.0.1"},
		args: func(h *house, e *emulator, profile, _ string) []string {
			return append(variable("AWS_PROFILE", profile), "--config", filepath.Join(h.dir, "no-rclone.conf"), "lsf", "--retries", "1", "--s3-provider", "Other", "--s3-env-auth", "--s3-region", "eu-west-1", "--s3-endpoint", e.url, ":s3:product-deployments")
		},
	},
	{
		name: "s3cmd", program: onPath("s3cmd"), asks: []string{"GET 127.0.0.1"},
		args: func(h *house, e *emulator, profile, _ string) []string {
			host := strings.TrimPrefix(e.url, "http://")
			return append(variable("AWS_PROFILE", profile), "-c", filepath.Join(h.dir, "no-s3cfg"), "--no-ssl", "--host", host, "--host-bucket", host, "--region", "eu-west-1", "ls", "s3://product-deployments")
		},
		cannot: map[string]string{
			"credential_process": "Configuration file not available",
			"server":             "Configuration file not available",
			"file":               "Configuration file not available", // it knows ~/.aws/credentials and a variable of its own
		},
	},
	{
		name: "restic", program: onPath("restic"), asks: []string{"PUT 127.0.0.1"},
		args: func(h *house, e *emulator, profile, _ string) []string {
			return append(variable("AWS_PROFILE", profile), "RESTIC_PASSWORD=x", "AWS_DEFAULT_REGION=eu-west-1", "--no-cache", "-r", "s3:"+e.url+"/product-deployments/restic", "init")
		},
		cannot: map[string]string{"credential_process": "Access Denied"}, // its requests are not signed
	},
}

func pythonWithBoto(_ *testing.T, h *house) string {
	for _, python := range installed("python3") {
		if h.run(python, "-c", "import boto3").code == 0 {
			return python
		}
	}
	return ""
}

// TestClientsWays runs each tool in each way, and checks that each request is signed with Broker's session of that
// role.
func TestClientsWays(t *testing.T) {
	h := clientHouse(t)
	e := startEmulator(t, h)
	must(t, h.settings("[source security]\naccess_key_id = "+keyID+"\nmfa_serial = "+serial+"\nmfa_seed = keyring\n"))
	must(t, h.write(h.awsConfig(), demoConfig))
	h.ok(t, "broker", "profiles", "link", "--all")
	h.toolsAsk(t, e)
	h.env = append(h.env, "CI=true")
	role := h.credentials(t, typed)

	for _, c := range toolTable {
		t.Run(c.name, func(t *testing.T) {
			program := c.program(t, h)
			if program == "" {
				missing(t, c.name)
			}
			for _, w := range ways {
				if c.tried != nil && !slices.Contains(c.tried, w.name) {
					continue
				}
				t.Run(w.name, func(t *testing.T) { tryWay(t, h, e, c, w, program, role) })
			}
		})
	}
	// All tools in all ways together needed one call.
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 1)

	// Use the second of several profiles.
	t.Run("Serverless 3 among several", func(t *testing.T) {
		c := toolTable[slices.IndexFunc(toolTable, func(c client) bool { return c.name == "Serverless 3 info" })]
		program := c.program(t, h)
		if program == "" {
			missing(t, c.name)
		}
		tryWay(t, h, e, c, way{name: "several", exec: []string{"broker", "exec", "product_dev_paul", typed, "--"}, named: true}, program, role)
	})
}

// toolsAsk makes the tools ask the emulator, and copies what they deploy to the house.
func (h *house) toolsAsk(t *testing.T, e *emulator) {
	t.Helper()
	testdata, err := filepath.Abs("testdata/clients")
	must(t, err)
	must(t, os.CopyFS(h.dir, os.DirFS(testdata))) // the tools write files next to what they deploy
	h.env = append(h.env, "EMULATOR="+e.url, "NODE_OPTIONS=--require "+filepath.Join(testdata, "redirect.js"), "NODE_PATH="+filepath.Join(clientsDir, "node_modules"), "NODE_NO_WARNINGS=1",
		"SLS_TELEMETRY_DISABLED=1", "SLS_NOTIFICATIONS_MODE=off", "SLS_ANALYTICS_DISABLED=1", "SLS_INTERACTIVE_SETUP_ENABLE=", "SLS_AWS_MONITORING_FREQUENCY=50", "SERVERLESS_DISABLE_ANALYTICS=1",
		"CDK_DISABLE_VERSION_CHECK=1", "CDK_DISABLE_CLI_TELEMETRY=true", "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE=1")
	// The last variable of a name wins.
	h.env = append(h.env, "AWS_ENDPOINT_URL_STS="+e.url)
}

// TestClientsPage compares docs/tools.md with the table.
func TestClientsPage(t *testing.T) {
	page, err := os.ReadFile("../docs/tools.md")
	must(t, err)
	for _, c := range toolTable {
		row := "| " + c.name + " |"
		for _, w := range ways {
			switch {
			case c.tried != nil && !slices.Contains(c.tried, w.name):
				row += " – |"
			case c.cannot[w.name] != "":
				row += " cannot |"
			default:
				row += " works |"
			}
		}
		if !strings.Contains(string(page), "\n"+row+"\n") {
			t.Errorf("docs/tools.md has no row %s", row)
		}
	}
}

func tryWay(t *testing.T, h *house, e *emulator, c client, w way, program string, role document) {
	profile := ""
	if w.named {
		profile = typed
	}
	if w.named && w.name != "credential_process" {
		// What the tool reads is in the credentials file.
		linked, err := os.ReadFile(h.awsConfig())
		must(t, err)
		must(t, h.write(h.awsConfig(), strings.ReplaceAll(string(linked), filepath.Join(h.bin, "credproc"), "/nowhere/credproc")))
		defer func() { must(t, h.write(h.awsConfig(), string(linked))) }()
	}
	if len(w.before) > 0 {
		h.ok(t, w.before[0], w.before[1:]...)
		defer func() { h.ok(t, w.after[0], w.after[1:]...) }()
	}
	e.forget(c.fresh)
	args := c.args(h, e, profile, w.name)
	words := append(slices.Clone(w.exec), "env")
	for len(args) > 0 && strings.Contains(args[0], "=") && !strings.HasPrefix(args[0], "-") {
		words, args = append(words, args[0]), args[1:]
	}
	if strings.HasSuffix(program, ".js") || strings.HasSuffix(program, "/cdk") {
		words = append(words, "node")
	}
	words = append(append(words, program), args...)
	cmd := h.command(words[0], words[1:]...)
	cmd.Dir = filepath.Join(h.dir, "sls")
	start := time.Now()
	r := finish(cmd)
	t.Logf("%.1f s, %d requests", time.Since(start).Seconds(), len(e.arrived()))

	reason, fails := c.cannot[w.name]
	for _, a := range e.arrived() {
		if a.keyID == role.AccessKeyID && a.token == role.SessionToken {
			if fails {
				t.Errorf("%s is signed after all", a.what)
			}
		} else if !fails {
			t.Errorf("%s is signed by %q, token %d bytes, want the session of the role", a.what, a.keyID, len(a.token))
		}
	}
	if fails {
		if r.code == 0 || !strings.Contains(r.stdout+r.stderr, reason) {
			t.Errorf("it must fail with %q: %v", reason, r)
		}
		return
	}
	if r.code != 0 || !strings.Contains(r.stdout, c.says) && !strings.Contains(r.stderr, c.says) {
		t.Errorf("%v: %v", words, r)
	}
	for _, what := range c.asks {
		if !e.did(what) {
			t.Errorf("no %q arrived, only %v: the test is void", what, e.arrived())
		}
	}
}

func init() {
	otherRoles["go-sdk"] = func() int {
		if err := goSDKClient(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
}

// goSDKClient is a Go program that asks for its own identity.
func goSDKClient() error {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return err
	}
	out, err := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(os.Getenv("EMULATOR")) }).
		GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	fmt.Println(aws.ToString(out.Arn))
	return nil
}

// TestClientsTenAliases has the load of Terraform with ten aliases of its AWS provider, which is built on the Go
// SDK: ten configurations at once, each with its own helper.
func TestClientsTenAliases(t *testing.T) {
	h := clientHouse(t)
	for _, kv := range append(h.env, "AWS_CONFIG_FILE="+h.awsConfig(), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(h.home, ".aws/credentials")) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	var all sync.WaitGroup
	for i := range 10 {
		c := clientRoles[i%len(clientRoles)]
		all.Go(func() {
			cfg, err := config.LoadDefaultConfig(t.Context(), config.WithSharedConfigProfile(c.profile))
			if err != nil {
				t.Error(err)
				return
			}
			out, err := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(h.sim.url) }).
				GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			if err != nil {
				t.Errorf("%s: %v", c.profile, err)
			} else if arn := aws.ToString(out.Arn); !strings.HasPrefix(arn, c.arn) {
				t.Errorf("%s: %s, want %s", c.profile, arn, c.arn)
			}
		})
	}
	all.Wait()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 3)
}

// TestClientsVersions prints the versions of the tools.
func TestClientsVersions(t *testing.T) {
	for _, words := range [][]string{{"aws", "--version"}, {"rclone", "version"}, {"s3cmd", "--version"}, {"restic", "version"}, {"node", "--version"}} {
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			t.Logf("%s: %v", words[0], err)
			continue
		}
		line, _, _ := strings.Cut(string(out), "\n")
		t.Log(words[0], line)
	}
}
