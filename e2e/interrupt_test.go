package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInterrupt checks that Ctrl-C at each prompt of each command ends it with 130, leaves the terminal as it was,
// and leaves no process. A row types until the prompt in question appears.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	credentials := func(text string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) { must(t, h.write(h.awsCredentials(), text)) }
	}
	// The user types the passphrase; it is not in a file.
	asks := func(t *testing.T, h *house) { h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=") }
	plain := credentials("[other]\naws_access_key_id = " + robotKeyID + "\naws_secret_access_key = " + robotSecret + "\n")
	locked := func(t *testing.T, h *house) {
		if r := h.runWith("correct horse battery staple\n", "broker", "lock", "--set-passphrase", "--stdin"); r.code != 0 {
			t.Fatal(r)
		}
		h.ok(t, "broker", "lock")
	}
	for name, row := range map[string]struct {
		prepare  func(*testing.T, *house)
		argv     []string
		question string
		before   []string // typed at the earlier prompts: prompt, answer, …
	}{
		"credproc": {nil, []string{"credproc", "product_prod_paul"}, question, nil},
		"exec":     {nil, []string{"broker", "exec", "product_prod_paul", "--", "true"}, question, nil},
		"export":   {nil, []string{"broker", "export", "product_prod_paul"}, question, nil},
		"login":    {nil, []string{"broker", "login"}, question, nil},
		"publish": {func(t *testing.T, h *house) {
			h.ok(t, "broker", "profiles", "link", "product_prod_paul")
		}, []string{"broker", "publish", "product_prod_paul"}, question, nil},
		"console":       {nil, []string{"broker", "console", "product_prod_paul", "--print"}, question, nil},
		"the list":      {nil, []string{"broker", "exec", "--", "true"}, "profile>", nil},
		"add, id":       {nil, []string{"broker", "add", "other"}, "Access key ID: ", nil},
		"add, secret":   {nil, []string{"broker", "add", "other"}, "Secret access key: ", []string{"Access key ID: ", robotKeyID}},
		"import":        {plain, []string{"broker", "import"}, "[y/N] ", nil},
		"setup":         {plain, []string{"broker", "setup"}, "each step] ", nil},
		"setup, a step": {plain, []string{"broker", "setup"}, "to stop] ", []string{"each step] ", "s"}},
		"remove":        {nil, []string{"broker", "remove", "security"}, "[y/N] ", nil},
		"import --undo": {func(t *testing.T, h *house) {
			plain(t, h)
			h.ok(t, "broker", "import", "--yes")
		}, []string{"broker", "import", "--undo"}, "[y/N] ", nil},
		"import --forget": {func(t *testing.T, h *house) {
			plain(t, h)
			h.ok(t, "broker", "import", "--yes")
		}, []string{"broker", "import", "--forget"}, "[y/N] ", nil},
		"link": {func(t *testing.T, h *house) {
			must(t, h.write(h.awsConfig(), demoConfig+"[profile asks]\nrole_arn = "+prodRole+
				"\nsource_profile = security\nmfa_process = /bin/true\n"))
		}, []string{"broker", "profiles", "link", "asks"}, "[y/N] ", nil},
		"config": {func(t *testing.T, h *house) {
			must(t, h.write(h.registry()+".other", "[source security]\naccess_key_id = "+keyID+"\n"))
		}, []string{"sh", "-c", `broker config set registry "$HOME/.config/broker/config.other"`}, "[y/N] ", nil},
		"unlock":     {locked, []string{"broker", "unlock"}, "Passphrase for unlock: ", nil},
		"lock":       {nil, []string{"broker", "lock", "--set-passphrase"}, "New passphrase: ", nil},
		"passphrase": {asks, []string{"broker", "remove", "--yes", "security"}, "Passphrase of the keyring: ", nil},
		"a proxy": {func(t *testing.T, h *house) {
			h.env = append(h.env, "NO_PROXY=example.com")
		}, []string{"broker", "add", "other"}, "for all calls to AWS? [y/N] ", []string{
			"Access key ID: ", robotKeyID, "Secret access key: ", robotSecret}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := seedless(t, "")
			if row.prepare != nil {
				row.prepare(t, h)
			}
			s := h.sit(t, row.argv[0], row.argv[1:]...)
			for i := 0; i < len(row.before); i += 2 {
				s.waits(row.before[i])
				s.types(row.before[i+1])
			}
			s.waits(row.question)
			s.keys("\x03")
			if r := s.ends(); r.code != 130 || !strings.HasSuffix(r.stderr, ": interrupted\n") {
				t.Errorf("%v\nthe terminal showed:\n%s", r, s.shown())
			}
			s.asItWas()
			until(t, "only the daemon and the simulator are left", func() bool {
				for _, p := range h.processes() {
					program, rest, _ := strings.Cut(p.line, " ")
					daemon := filepath.Base(program) == "brokerd" && rest != "vault"
					if !daemon && filepath.Base(program) != "stssim" && p.pid != os.Getpid() {
						return false
					}
				}
				return true
			})
		})
	}
}
