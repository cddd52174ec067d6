package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestPromptIsEarly: a prompt is answered before the libraries of broker's other commands are initialised, which take most of the
// time of so short a life. What is counted is what Go says that it initialises (GODEBUG=inittrace=1), since time depends on the machine.
func TestPromptIsEarly(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	libraries := regexp.MustCompile(`(?m)^init github\.com/(junegunn/fzf|urfave/cli|99designs|aws/aws-sdk-go-v2/service/sts)`)
	trace := func(env []string, args ...string) result {
		cmd := h.command("broker", args...)
		cmd.Env = append(append(cmd.Env, "GODEBUG=inittrace=1"), env...)
		return finish(cmd)
	}
	if r := trace(nil, "version"); !libraries.MatchString(r.stderr) {
		t.Fatalf("without the short way nothing is initialised either, so this shows nothing: %v", r)
	}
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, `^security 1[12]h\n$`},
		{[]string{"BROKER_PROFILE=product_prod_paul", "BROKER_EXPIRATION=2020-01-01T00:00:00Z"}, `^product_prod_paul expired\n$`},
		{[]string{"BROKER_SOCKET=/nowhere/s"}, `^$`},
	} {
		r := trace(test.env, "status", "--short")
		if r.code != 0 || !regexp.MustCompile(test.want).MatchString(r.stdout) {
			t.Errorf("%v: %v", test.env, r)
		}
		if found := libraries.FindAllString(r.stderr, -1); len(found) > 0 || !strings.Contains(r.stderr, "\ninit ") {
			t.Errorf("%v: %q", test.env, found)
		}
	}
	// Another spelling goes the usual way, to the same words.
	if out := h.ok(t, "broker", "status", "--short=true"); !strings.HasPrefix(out, "security 1") {
		t.Errorf("%q", out)
	}
}
