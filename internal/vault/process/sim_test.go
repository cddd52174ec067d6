package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
	"broker/internal/vault"
)

const simSeed = "BROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDE"

// TestSimulatedAWS runs the shipped vault process, with the real client, against the simulator.
func TestSimulatedAWS(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "main")
	t.Setenv("NO_PROXY", "*")
	ctx := t.Context()
	key := stssim.Demo().User("security", "paul").Keys[0]
	source := profiles.Source{Name: "security", AccessKeyID: key.ID, MFASerial: testSerial}

	setUp := func(t *testing.T, offset time.Duration) (*stssim.Sim, *vault.Caller, session.Call) {
		sim, endpoint := simulated(t, nil)
		c := fileCaller(t)
		who, err := c.Put(ctx, vault.Key{Name: "security", AccessKeyID: key.ID, Secret: secret.New(key.Secret)}, endpoint, true)
		if err != nil || who.ARN != "arn:aws:iam::111122223333:user/paul" || who.Account != "111122223333" {
			t.Fatalf("put: %+v, %v", who, err)
		}
		sim.SetClockOffset(offset)
		return sim, c, session.Call{
			Operation: session.GetSessionToken,
			MFASerial: testSerial,
			Duration:  time.Hour,
			Endpoint:  endpoint,
		}
	}

	for _, offset := range []time.Duration{0, 10 * time.Minute, -16 * time.Minute, 24 * time.Hour} {
		t.Run("seed, clock off by "+offset.String(), func(t *testing.T) {
			sim, c, call := setUp(t, offset)
			must(t, c.SetSeed(ctx, "security", secret.New(simSeed)))
			creds, err := c.Open(ctx, source, call, secret.String{})
			if err != nil {
				t.Fatal(err)
			}
			if left := creds.Expires.Sub(sim.Now()); left < 59*time.Minute || left > time.Hour ||
				!strings.HasPrefix(creds.AccessKeyID, "ASIA") {
				t.Errorf("%s left of %s", left, secret.Tail(creds.AccessKeyID))
			}
			want := 1
			if offset != 0 {
				want = 2
			}
			if n := sim.Count("GetSessionToken"); n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
		})
	}

	t.Run("typed code", func(t *testing.T) {
		sim, c, call := setUp(t, 0)
		_, wrong := c.Open(ctx, source, call, secret.New("000000"))
		device := call
		device.MFASerial += "2"
		_, serial := c.Open(ctx, source, device, secret.New(sim.FreshCode(testSerial)))
		code := secret.New(sim.FreshCode(testSerial))
		_, err := c.Open(ctx, source, call, code)
		must(t, err)
		_, used := c.Open(ctx, source, call, code)
		texts := map[string]bool{}
		for _, err := range []error{wrong, serial, used} {
			if !fault.Is(err, fault.CodeRejected) {
				t.Errorf("got %v", err)
				continue
			}
			texts[err.Error()] = true
		}
		if len(texts) != 3 || !errors.Is(serial, exchange.ErrWrongDevice) {
			t.Errorf("the errors for a wrong code, a used code and a wrong device are not distinct: %v", texts)
		}
		if n := sim.Count("GetSessionToken"); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
	})

	t.Run("typed code, clock off by 20 min", func(t *testing.T) {
		sim, c, call := setUp(t, 20*time.Minute)
		_, err := c.Open(ctx, source, call, secret.New(sim.FreshCode(testSerial)))
		if !fault.Is(err, fault.Clock) || sim.Count("GetSessionToken") != 1 {
			t.Fatalf("%d calls: %v", sim.Count("GetSessionToken"), err)
		}
		// The next vault process gets the clock offset from the previous one.
		if _, err := c.Open(ctx, source, call, secret.New(nextCode(t, sim))); err != nil {
			t.Errorf("the next code: %v", err)
		}
	})
}

// TestDevices: the vault process returns the devices, or that it may not list them.
func TestDevices(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "main")
	t.Setenv("NO_PROXY", "*")
	ctx := t.Context()
	_, endpoint := simulated(t, func(org *stssim.Organization) {
		org.User("security", "robot").DenyWithoutMFA = []string{"iam:ListMFADevices"}
	})
	c := fileCaller(t)
	for _, user := range []string{"paul", "robot"} {
		key := stssim.Demo().User("security", user).Keys[0]
		_, err := c.Put(ctx, vault.Key{Name: user, AccessKeyID: key.ID, Secret: secret.New(key.Secret)}, endpoint, false)
		must(t, err)
	}
	serials, err := c.Devices(ctx, "paul", endpoint)
	if err != nil || len(serials) != 1 || serials[0] != testSerial {
		t.Errorf("devices %v, %v", serials, err)
	}
	if _, err := c.Devices(ctx, "robot", endpoint); !fault.Is(err, fault.Denied) {
		t.Errorf("denied: %v", err)
	}
	if _, err := c.Devices(ctx, "nobody", endpoint); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// nextCode returns the code of the next step, which AWS accepts a little early and the ledger has not seen.
func nextCode(t *testing.T, sim *stssim.Sim) string {
	return codeOf(t, simSeed, sim.Now().Add(30*time.Second))
}

// TestHardened: a hardened process can still find its own program, also as an ordinary user.
func TestHardened(t *testing.T) {
	home, err := os.MkdirTemp("/tmp", "hardened")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	must(t, os.Chmod(home, 0o711))
	must(t, os.Mkdir(home+"/his", 0o700))
	exe := filepath.Join(home, "exe")
	data, err := os.ReadFile(testExe(t))
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755))
	cmd := exec.Command(exe, "hardened", home+"/his/keyring", "")
	if os.Getuid() == 0 {
		must(t, os.Chown(home+"/his", 65534, 65534))
		cmd.SysProcAttr = asUser(65534)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Equal(out, []byte("made\n")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// hardened runs in a hardened process, with a Caller that starts the same program or another one.
func hardened(dir, exe string) int {
	if err := harden.Process(); err != nil {
		println(err.Error())
		return 1
	}
	c := &vault.Caller{Exe: exe, Backend: func() string { return vault.File },
		Dir: dir, StateDir: dir + "-state", Registry: dir + "-config"}
	if err := c.Create(context.Background(), secret.New(testPassphrase)); err != nil {
		println(err.Error())
		return 1
	}
	_, _ = os.Stdout.WriteString("made\n")
	return 0
}
