//go:build clients

package e2e

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestClientsLogWho: for each way in which the AWS CLI gets a session, the access key id that STS saw leads to the
// process of the AWS CLI.
func TestClientsLogWho(t *testing.T) {
	found := installed("aws")
	if len(found) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	for _, program := range found {
		h := clientHouse(t)
		if r := h.run(program, "--version"); r.code != 0 {
			t.Logf("SKIPPED: %s does not run: %v", program, r)
			continue
		}
		must(t, h.write(h.awsConfig(), demoConfig))
		h.ok(t, "broker", "profiles", "link", "product_prod_paul")
		call := []string{program, "sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url,
			"--region", "eu-west-1"}
		// The command line that only this call has: one session serves several deliveries.
		marked := func(mark string) []string { return append(call[:len(call):len(call)], "--cli-read-timeout", mark) }
		under := func(mode, mark string) []string {
			return append([]string{"broker", "exec", "--mode", mode, "product_prod_paul", "--"}, marked(mark)...)
		}
		for name, tt := range map[string]struct {
			args     []string
			delivery string
		}{
			"credential_process":      {append(marked("61"), "--profile", "product_prod_paul"), "as a reply"},
			"exec --mode environment": {append([]string{"broker", "exec", "product_prod_paul", "--"}, marked("62")...), "as a reply"},
			"exec --mode server":      {under("server", "63"), "by an endpoint"},
			"exec --mode file":        {under("file", "64"), "in a private file"},
		} {
			out := h.ok(t, tt.args[0], tt.args[1:]...)
			if !strings.HasPrefix(out, "arn:aws:sts::444455556666:assumed-role/") {
				t.Errorf("%s: %s", name, out)
			}
			id := lastKeyID(t, h)
			mark := regexp.MustCompile(`--cli-read-timeout (\d+)`).FindStringSubmatch(strings.Join(tt.args, " "))[1]
			who := h.ok(t, "broker", "log", "who", id)
			ours := ""
			for _, block := range strings.Split(who, "\n\n") {
				if strings.Contains(block, "--cli-read-timeout "+mark) {
					ours = block
				}
			}
			if !strings.Contains(ours, filepath.Base(program)+" sts get-caller-identity") || !strings.Contains(ours, tt.delivery) ||
				!strings.Contains(ours, id) {
				t.Errorf("%s, %s: %s leads to\n%s", program, name, id, who)
			}
			event, err := json.Marshal(map[string]any{"userIdentity": map[string]string{"accessKeyId": id}})
			if err != nil {
				t.Fatal(err)
			}
			if r := h.runWith(string(event), "broker", "log", "who"); r.code != 0 || r.stdout != who {
				t.Errorf("%s: the event leads to %v", name, r)
			}
		}
		h.ok(t, "broker", "publish", "product_prod_paul")
		h.ok(t, program, append(marked("65")[1:], "--profile", "product_prod_paul")...)
		if who := h.ok(t, "broker", "log", "who", lastKeyID(t, h)); !strings.Contains(who, "in the credentials file") ||
			!strings.Contains(who, "may have used it") || !strings.Contains(who, "broker publish product_prod_paul") {
			t.Errorf("publish: %s", who)
		}
		h.ok(t, "broker", "log", "verify")
	}
}

// lastKeyID returns the access key id that signed the last call of GetCallerIdentity.
func lastKeyID(t *testing.T, h *house) (id string) {
	t.Helper()
	list, err := h.sim.requests()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Action == "GetCallerIdentity" {
			id = r.AccessKeyID
		}
	}
	if id == "" {
		t.Fatal("the AWS CLI made no call")
	}
	return id
}
