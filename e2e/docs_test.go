package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocs types what README and each page of docs print. It runs the `$ …` lines of console blocks in order in a
// fresh home, and writes the ini blocks between them to the files that the text names. The house for a page has a
// source, two profiles and a simulator; README and the guide begin with a key that is not stored yet.
//
// TestDocs types the pages that people try first, and TestDocsLong the others.
func TestDocs(t *testing.T) { testDocs(t, true) }

func TestDocsLong(t *testing.T) { testDocs(t, false) }

func testDocs(t *testing.T, first bool) {
	t.Helper()
	t.Parallel()
	least := 13
	if first {
		least = 2
	}
	pages, err := filepath.Glob("../docs/*.md")
	must(t, err)
	commands := regexp.MustCompile(`(?m)^ *\$ (broker|aws|eval) `)
	pages = slices.DeleteFunc(append(pages, "../README.md"), func(page string) bool {
		text, err := os.ReadFile(page)
		must(t, err)
		isFirst := page == "../README.md" || page == "../docs/getting-started.md"
		return isFirst != first || !commands.Match(text) || slices.Contains([]string{
			"../docs/aws-facts.md",    // describes what AWS answers
			"../docs/first-minute.md", // TestClientsFirstMinute runs it
			"../docs/networks.md",     // TestLocalStackRecipe
		}, page)
	})
	if len(pages) < least {
		t.Fatalf("only %q have commands: the test is void", pages)
	}
	for _, page := range pages {
		page = strings.TrimPrefix(filepath.ToSlash(page), "../")
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", page))
			must(t, err)
			h := newHouse(t)
			must(t, h.startSim())
			must(t, h.settings(""))
			downloads := filepath.Join(h.home, "Downloads")
			must(t, os.MkdirAll(downloads, 0o755))
			must(t, os.WriteFile(filepath.Join(downloads, "accessKeys.csv"), []byte(h.ok(t, "stssim", "--org", "demo", "--print-csv", "paul")), 0o600))
			must(t, os.WriteFile(filepath.Join(h.home, "seed.txt"), []byte(h.ok(t, "stssim", "--org", "demo", "--print-seed", serial)), 0o600))
			key := fmt.Sprintf(`{"AccessKey":{"UserName":"paul","AccessKeyId":%q,"Status":"Active","SecretAccessKey":%q}}`,
				keyID, keySecret) // what `aws iam create-access-key` prints
			must(t, os.WriteFile(filepath.Join(h.dir, "key.json"), []byte(key), 0o600))
			switch page {
			case "README.md": // setup finds the key in a file
				must(t, h.write(h.awsConfig(), demoConfig))
				must(t, h.write(filepath.Join(filepath.Dir(h.awsConfig()), "credentials"),
					"[security]\naws_access_key_id = "+keyID+"\naws_secret_access_key = "+keySecret+"\n"))
			case "docs/getting-started.md", "docs/accounts-from-nothing.md": // the key is in a downloaded file
			case "docs/accounts.md": // the profiles are generated
				must(t, h.furnish(true))
			default:
				must(t, h.write(h.awsConfig(), demoConfig))
				must(t, h.furnish(true))
			}
			self, err := os.Executable()
			must(t, err)
			must(t, os.WriteFile(filepath.Join(h.bin, "browser"), []byte("#!/bin/sh\nE2E_ROLE=browser E2E_OUT="+
				filepath.Join(h.dir, "visited")+" exec "+self+` "$@"`+"\n"), 0o755))
			hasAWS := awsOnPath(t, h)

			commands := 0
			block := regexp.MustCompile("(?ms)^ *```(console|ini)\n(.*?)^ *```")
			for _, m := range block.FindAllStringSubmatch(string(text), -1) {
				if m[1] == "ini" {
					writeExample(t, h, m[2])
					continue
				}
				for _, typed := range typedIn(m[2]) {
					if strings.HasPrefix(typed, "make ") || strings.HasPrefix(typed, "go ") {
						continue // .ci/run runs those
					}
					if page == "docs/accounts-from-nothing.md" && !strings.HasPrefix(typed, "broker ") {
						continue // TestClientsAccountsFromNothing runs those
					}
					if strings.Contains(typed, "aws ") && !hasAWS {
						t.Logf("NOT RUN, the AWS CLI is not installed: %s", typed)
						continue
					}
					commands++
					const seed = "broker mfa set security --seed-stdin <~/seed.txt" // instead of a code that a person types
					switch {
					case typed == "broker setup":
						typed += " --yes; " + seed
					case strings.HasPrefix(typed, "broker add "):
						typed += " && " + strings.Replace(seed, "security", strings.Fields(typed)[2], 1)
					case strings.HasPrefix(typed, "broker remove "), strings.HasPrefix(typed, "broker profiles trust"):
						typed += " --yes"
					case typed == "broker login my-sso": // a person logs in there
						must(t, h.sim.post("pages", `{"answer":"allow"}`))
						typed = "DISPLAY=:4711 BROWSER=" + filepath.Join(h.bin, "browser") + " " + typed
					case strings.HasPrefix(typed, "broker console "):
						typed += " --print" // there is no browser here
					}
					if r := h.run("/bin/bash", "-c", typed); r.code != 0 {
						t.Errorf("$ %s\n%v", typed, r)
					}
				}
			}
			if commands == 0 {
				t.Error("found no command: the test is void")
			}
		})
	}
}

// typedIn returns what a person types in a console block: each command begins with "$ ". Indented lines below one that
// ends with a backslash or with "do" belong to it.
func typedIn(block string) (list []string) {
	goesOn := false
	for _, line := range strings.Split(block, "\n") {
		typed, begins := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		switch {
		case begins:
			list = append(list, typed)
		case goesOn:
			list[len(list)-1] += "\n" + line
		default:
			continue // output
		}
		last := list[len(list)-1]
		goesOn = strings.HasSuffix(line, "\\") ||
			strings.HasPrefix(last, "for ") && !strings.HasSuffix(last, "\n  done")
	}
	return list
}

// TestLocalStackRecipe types the recipe for LocalStack in docs/networks.md, with a simulator in LocalStack's
// place. Each call goes there, even the source's own. The proxy, through which each call to AWS would go, gets no
// request.
func TestLocalStackRecipe(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs/networks.md"))
	must(t, err)
	_, rest, found := strings.Cut(string(page), "\n## LocalStack and other endpoints\n")
	recipe, _, _ := strings.Cut(rest, "\n## ")
	if !found || strings.Count(string(page), "```console") != strings.Count(recipe, "```console") {
		t.Fatal("the recipe is missing, or the page has other commands that no test runs")
	}
	h := newHouse(t)
	org := filepath.Join(h.dir, "localstack.ini")
	must(t, os.WriteFile(org, []byte(`[account local]
id = 000000000000
[user root]
account = local
access_key_id = AKIAIOSFODNN7EXAMPLE
secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
[role admin]
accounts = local
trust = arn:aws:iam::000000000000:root
`), 0o600))
	must(t, h.startSim("--org", org))
	p := startProxy(t, h.dir)
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = file\n"+h.more+"https_proxy = "+p.url+"\n"))
	recipe = strings.ReplaceAll(recipe, "http://localhost:4566", strings.Replace(h.sim.url, "127.0.0.1", "localhost", 1))

	block := regexp.MustCompile("(?ms)^```(console|ini)\n(.*?)^```")
	for _, m := range block.FindAllStringSubmatch(recipe, -1) {
		if m[1] == "ini" {
			writeExample(t, h, m[2])
			continue
		}
		typed := strings.ReplaceAll("\n"+m[2], "\n$ ", "\n")
		typed = strings.ReplaceAll(typed, "profiles trust ", "profiles trust --yes ") // there is no terminal here
		if r := h.run("/bin/bash", "-e", "-c", typed); r.code != 0 {
			t.Errorf("$ %s\n%v", typed, r)
		}
	}
	h.credentials(t, "local")
	h.credentials(t, "localstack")
	for _, action := range []string{"GetCallerIdentity", "GetSessionToken", "AssumeRole"} {
		h.counted(t, action, 1)
	}
	if n := p.connects.Load(); n != 0 {
		t.Errorf("%d calls left for AWS", n)
	}
	// Without the endpoint of the source its call goes to AWS: the proxy sees the call that the recipe must avoid.
	h.ok(t, "broker", "logout")
	registry("endpoint_url = ", "# endpoint_url = ")(t, h)
	if r := h.run("credproc", "localstack"); r.code == 0 || p.connects.Load() == 0 {
		t.Errorf("without the source's endpoint: %v, %d calls", r, p.connects.Load())
	}
}

// writeExample writes an ini block to its file: profiles to the AWS config, account maps to their own file,
// everything else to the registry.
func writeExample(t *testing.T, h *house, text string) {
	t.Helper()
	text = regexp.MustCompile(`(?m)^ +`).ReplaceAllString(text, "")
	if strings.HasPrefix(text, "# ~/.aws/config of CloudShell\n") {
		return // another machine
	}
	file := h.registry()
	if strings.HasPrefix(text, "# accounts.ini\n") {
		must(t, h.write(filepath.Join(h.dir, "accounts.ini"), text))
		return
	}
	if strings.HasPrefix(text, "[profile ") || strings.HasPrefix(text, "[sso-session my-sso]") {
		file = h.awsConfig()
	}
	old, _ := os.ReadFile(file)
	must(t, h.write(file, string(old)+"\n"+text))
}

// awsOnPath puts an `aws` before the real one on the PATH. It sends everything to the simulator. The real AWS CLI
// up to 2.9 accepts another endpoint only as a flag.
func awsOnPath(t *testing.T, h *house) bool {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Error("the AWS CLI is not on the PATH: make deps-clients")
		}
		return false
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" --endpoint-url %s\n", aws, h.sim.url)
	must(t, os.WriteFile(filepath.Join(h.bin, "aws"), []byte(script), 0o755))
	return true
}
