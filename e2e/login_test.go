package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestKeptSession checks that the stored session outlives the daemon, and that logout and another device remove it
// from the keyring, too.
func TestKeptSession(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	source := h.credentials(t, "security")
	role := h.credentials(t, "product_prod_paul")
	must(t, h.stopDaemon())
	if again := h.credentials(t, "security"); again != source {
		t.Errorf("after a restart it is another session: %s, was %s", again.AccessKeyID, source.AccessKeyID)
	}
	must(t, syscall.Kill(h.daemonPID(t), syscall.SIGKILL))
	h.credentials(t, "product_prod_paul")
	h.counted(t, "GetSessionToken", 1)

	asks := func(when string) {
		t.Helper()
		s := h.sit(t, "credproc", "security")
		s.waits(question)
		s.keys("\x03")
		s.fails("130")
		must(t, h.stopDaemon())
		if r := h.run("credproc", "security"); r.code != 4 {
			t.Errorf("%s, and after another restart: %v", when, r)
		}
	}
	h.ok(t, "broker", "logout")
	asks("after logout")
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	h.counted(t, "GetSessionToken", 2)
	registry, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, h.write(h.registry(), strings.ReplaceAll(string(registry), serial, serial+"-new")))
	must(t, h.stopDaemon())
	asks("with another device")
	h.counted(t, "GetSessionToken", 2)

	must(t, h.stopDaemon())
	w := lookFor(map[string]string{"the key's secret": keySecret, "the session's secret": source.SecretAccessKey, "the session's token": source.SessionToken,
		"the role's secret": role.SecretAccessKey, "the role's token": role.SessionToken})
	must(t, filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Dir(path) == h.bin {
			return err
		}
		data, err := os.ReadFile(path)
		for _, name := range w.in(data) {
			t.Errorf("%s holds %s", strings.TrimPrefix(path, h.dir), name)
		}
		return err
	}))
}

// TestLoginAnswersElsewhere checks that a login answers the prompt that is open on another terminal.
func TestLoginAnswersElsewhere(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	s.succeeds()
	s.asked(1)
	s.asItWas()
	if !strings.HasSuffix(s.shown(), "\n") {
		t.Errorf("the line of the prompt was not ended: %q", s.shown())
	}
	h.counted(t, "GetSessionToken", 1)
	h.toldCodes(t, 1)
}

// TestLoginAsks checks that login without a code prompts on its own terminal. For several profiles it needs one
// code for each device, and assumes all roles at once.
func TestLoginAsks(t *testing.T) {
	t.Parallel()
	h := seedless(t, "[alias]\nprod = product_prod_paul\ndev = product_dev_paul\n")
	must(t, h.write(h.awsConfig(), demoConfig+"[profile stage]\nrole_arn = "+strings.Replace(prodRole, "444455556666", "333344445555", 1)+"\nsource_profile = security\n"))
	// No call is answered before all three have been made.
	must(t, h.sim.fault(`{"kind":"delay","action":"AssumeRole","delay_seconds":4,"times":-1}`))
	s := h.shell(t, "broker", "login", "prod", "stage", "dev")
	s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by broker: ")
	s.types(h.code(t, serial))
	s.waits("security: logged in until ")
	h.reaches(t, "AssumeRole", 3)
	if strings.Contains(s.shown(), ": ready") {
		t.Errorf("the roles were assumed one after the other:\n%s", s.shown())
	}
	if r := s.ends(); r.code != 0 {
		t.Errorf("exit code %d:\n%s", r.code, s.shown())
	}
	for _, name := range []string{"product_prod_paul: ready", "stage: ready", "product_dev_paul: ready"} {
		s.waits(name)
	}
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 3)
	for _, name := range []string{"product_prod_paul", "stage", "product_dev_paul"} {
		h.credentials(t, name)
	}
	h.counted(t, "AssumeRole", 3)
}
