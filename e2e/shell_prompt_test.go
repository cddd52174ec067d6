package e2e

import (
	"path/filepath"
	"regexp"
	"testing"
)

// TestPrompt checks that both programs print the same line for shell prompts, and that this never fails, even
// without a daemon or with everything broken.
func TestPrompt(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, `^security 1[12]h\n$`},
		{[]string{"BROKER_PROFILE=product_prod_paul", "BROKER_EXPIRATION=2020-01-01T00:00:00Z"}, `^product_prod_paul expired\n$`},
		{[]string{"BROKER_PROFILE=a\x1b[2Jb"}, `^a\\x1b\[2Jb\n$`},
		{[]string{"BROKER_SOCKET=/nowhere/s"}, `^$`},
		{[]string{"BROKER_SOCKET=" + filepath.Join(h.bin, "credproc")}, `^$`},
	} {
		for _, argv := range [][]string{{"credproc", "--prompt"}, {"broker", "status", "--short"}} {
			r := h.in(test.env, argv[0], argv[1:]...)
			if r.code != 0 || r.stderr != "" || !regexp.MustCompile(test.want).MatchString(r.stdout) {
				t.Errorf("%v %v: %v", test.env, argv, r)
			}
		}
	}
	if r := h.in([]string{"HOME=", "BROKER_SOCKET="}, "credproc", "--prompt"); r.code != 0 || r.stdout+r.stderr != "" {
		t.Errorf("without a home: %v", r)
	}
}
