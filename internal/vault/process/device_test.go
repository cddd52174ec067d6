package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
	"broker/internal/vault"
)

const mfaARN = "arn:aws:iam::111122223333:mfa/"

// TestEnrollment runs the shipped vault process against the simulator, which checks both codes.
func TestEnrollment(t *testing.T) {
	exe := with(t, vaultExe(t), "BROKER_TEST_VAULT=main")
	t.Parallel()
	ctx := t.Context()
	sim, endpoint := simulated(t, nil)
	c := fileCaller(t)
	c.Exe = exe
	key := stssim.Demo().User("security", "robot").Keys[0]
	_, err := c.Put(ctx, vault.Key{Name: "security", AccessKeyID: key.ID, Secret: secret.New(key.Secret)}, endpoint, true)
	must(t, err)
	e := vault.Enrollment{Source: "security", KeyID: key.ID, Endpoint: endpoint, Store: true, Show: true}

	d, err := c.MakeDevice(ctx, e)
	if err != nil || d.Serial != mfaARN+"robot" || d.User != "robot" || !d.Stored || d.Enabled {
		t.Fatalf("created %+v, %v", d, err)
	}
	if _, err := mfa.ParseSeed(d.Seed.Reveal()); err != nil {
		t.Fatalf("the seed: %v", err)
	}
	info, err := c.Describe(ctx, "security")
	if err != nil || info.Enrolling != d.Serial || info.HasSeed {
		t.Errorf("described as %+v, %v", info, err)
	}
	e.Serial = d.Serial
	must(t, c.EnableDevice(ctx, e, secret.String{}, secret.String{}))
	if owner := deviceOwners(sim)[d.Serial]; owner != "arn:aws:iam::111122223333:user/robot" {
		t.Errorf("the device belongs to %q", owner)
	}

	// Go on after a crash: the seed is not shown again.
	again, err := c.MakeDevice(ctx, e)
	if err != nil || again.Serial != d.Serial || !again.Enabled || !again.Stored || !again.Seed.IsZero() {
		t.Errorf("an enabled device: %+v, %v", again, err)
	}

	// The registry names the device before the enrollment ends; its seed is found before and after that.
	source := profiles.Source{Name: "security", AccessKeyID: key.ID, MFASerial: d.Serial}
	call := session.Call{Operation: session.GetSessionToken, MFASerial: d.Serial, Duration: time.Hour, Endpoint: endpoint}
	for _, when := range []string{"before", "after"} {
		sim.ForgetCodes()
		must(t, os.Remove(filepath.Join(c.StateDir, "mfa-ledger")))
		must(t, c.Drop(ctx, "security", ""))
		if _, err := c.Open(ctx, source, call, secret.String{}); err != nil {
			t.Errorf("%s the end of the enrollment: %v", when, err)
		}
		must(t, c.KeepDevice(ctx, e))
	}
	if info, err = c.Describe(ctx, "security"); err != nil || info.Enrolling != "" || !info.HasSeed {
		t.Errorf("in the end described as %+v, %v", info, err)
	}
	if err := c.EnableDevice(ctx, e, secret.String{}, secret.String{}); !fault.Is(err, fault.Failed) {
		t.Errorf("a device whose enrollment has ended: %v", err)
	}
}

// simulated returns a simulator of the demo organization, after change.
func simulated(t *testing.T, change func(*stssim.Organization)) (*stssim.Sim, profiles.Endpoint) {
	t.Helper()
	org := stssim.Demo()
	if change != nil {
		change(org)
	}
	sim, err := stssim.New(org)
	must(t, err)
	server, err := sim.Start()
	must(t, err)
	t.Cleanup(server.Close)
	return sim, profiles.Endpoint{Region: "eu-west-1", URL: server.URL}
}

// deviceOwners returns the ARNs of the users of all devices, by serial.
func deviceOwners(sim *stssim.Sim) map[string]string {
	owners := map[string]string{}
	for _, d := range sim.Devices() {
		owners[d.Serial] = d.User
	}
	return owners
}

// enroller runs the operations of an enrollment in this process, each as a process of its own would.
type enroller struct {
	t        *testing.T
	ring     *badRing
	told     bytes.Buffer
	endpoint profiles.Endpoint
	state    string
	keys     exchange.Keys
}

func newEnroller(t *testing.T, endpoint profiles.Endpoint, user string) *enroller {
	t.Helper()
	key := stssim.Demo().User("security", user).Keys[0]
	data, err := encodeItem(item{Name: "security", AccessKeyID: key.ID, Secret: secret.New(key.Secret)})
	must(t, err)
	r := &badRing{items: map[string][]byte{itemKey("security"): data}}
	r.write = func(data []byte) error {
		r.items[itemKey("security")] = data
		return nil
	}
	return &enroller{t: t, ring: r, endpoint: endpoint, state: t.TempDir(),
		keys: exchange.Keys{AccessKeyID: key.ID, Secret: secret.New(key.Secret)}}
}

func (n *enroller) item() item {
	n.t.Helper()
	it, err := load(n.t.Context(), n.ring, "security")
	must(n.t, err)
	return it
}

// do runs one operation. A scripted code is used at most once, as with a process.
func (n *enroller) do(
	op func(*errand, context.Context, ring) (*answer, error), q vault.DeviceRequest, with *vault.Credentials,
) (*answer, error) {
	r := &request{Source: "security", KeyID: n.keys.AccessKeyID, StateDir: n.state, Registry: homeRegistry(),
		Device: &q, With: with, Endpoint: n.endpoint}
	e := &errand{request: r, sts: newSTS(r), ledger: mfa.Ledger{Dir: n.state}, notices: &n.told}
	return op(e, n.t.Context(), n.ring)
}

// run enrolls a device, or goes on. It returns its serial.
func (n *enroller) run(replaces string, with *vault.Credentials) (string, error) {
	a, err := n.do((*errand).makeDevice, vault.DeviceRequest{Store: true, Show: true, Replaces: replaces}, with)
	if err != nil {
		return "", err
	}
	q := vault.DeviceRequest{Serial: a.Device.Serial}
	if !a.Device.Enabled {
		if err := os.Remove(filepath.Join(n.state, "mfa-ledger")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err // codes of an earlier device of that name count as used
		}
		if _, err := n.do((*errand).enableDevice, q, with); err != nil {
			return "", err
		}
	}
	_, err = n.do((*errand).keepDevice, q, with)
	return a.Device.Serial, err
}

// sessionOf returns an MFA session of the demo user paul.
func sessionOf(t *testing.T, sim *stssim.Sim, n *enroller) *vault.Credentials {
	t.Helper()
	call := mfaCall()
	call.Endpoint = n.endpoint
	creds, err := exchange.New(exchange.Options{}).Call(t.Context(), n.keys, call, secret.New(sim.FreshCode(testSerial)))
	must(t, err)
	return revealCredentials(creds)
}

// TestEnrollmentNames: a device is named after its user, or gets a number if the name is taken.
func TestEnrollmentNames(t *testing.T) {
	t.Parallel()
	sim, endpoint := simulated(t, nil)
	n := newEnroller(t, endpoint, "robot")
	// As the console leaves it.
	_, err := exchange.New(exchange.Options{}).CreateDevice(t.Context(), n.keys, endpoint, "robot")
	must(t, err)
	for _, want := range []string{"robot-2", "robot-3"} {
		serial, err := n.run("", nil)
		if err != nil || serial != mfaARN+want {
			t.Errorf("enrolled %s, %v; want %s", serial, err, want)
		}
	}
	if owners := deviceOwners(sim); len(owners) != 4 || owners[mfaARN+"robot"] != "" {
		t.Errorf("devices: %v", owners)
	}
	for range mostDevices - 2 {
		_, err = n.run("", nil)
		must(t, err)
	}
	_, err = n.run("", nil)
	if err == nil || !strings.Contains(err.Error(), "user robot has 8 MFA devices already") {
		t.Errorf("a ninth device: %v", err)
	}
	if owners := deviceOwners(sim); len(owners) != 10 || n.item().Enrolling.Serial != "" {
		t.Errorf("something is left of the ninth device: %v", owners)
	}
}

// TestEnrollmentOfAnother: a device whose creation was only planned is not ours if AWS has one of that name.
func TestEnrollmentOfAnother(t *testing.T) {
	t.Parallel()
	sim, endpoint := simulated(t, nil)
	n := newEnroller(t, endpoint, "paul")
	it := n.item()
	it.Enrolling = enrolling{Serial: testSerial}
	data, err := encodeItem(it)
	must(t, err)
	must(t, n.ring.write(data))
	serial, err := n.run("", nil)
	if err != nil || serial != testSerial+"-2" || deviceOwners(sim)[testSerial] == "" {
		t.Errorf("enrolled %s, %v; devices %v", serial, err, sim.Devices())
	}
}

// TestEnrollmentSurvivesFaults: whatever fails, the same command again goes on. The user has a working device at every
// moment, and in the end exactly the new one.
func TestEnrollmentSurvivesFaults(t *testing.T) { enrollWithFaults(t, 1, stssim.DropAfter) }

func TestEnrollmentSurvivesFaultsLong(t *testing.T) {
	enrollWithFaults(t, 3, stssim.DropBefore, stssim.DropAfter, stssim.Status, stssim.EmptyBody)
}

// enrollWithFaults makes the calls of each action fail, after so many that succeed.
func enrollWithFaults(t *testing.T, skips int, kinds ...stssim.FaultKind) {
	t.Helper()
	t.Parallel()
	var hits atomic.Int32
	t.Cleanup(func() {
		if int(hits.Load()) < 4*skips*len(kinds) {
			t.Errorf("only %d failures: the test proves nothing", hits.Load())
		}
	})
	for _, replaces := range []string{"", testSerial} {
		for _, action := range []string{"GetCallerIdentity", "ListMFADevices", "CreateVirtualMFADevice", "EnableMFADevice",
			"DeactivateMFADevice", "DeleteVirtualMFADevice"} {
			for _, kind := range kinds {
				for skip := range skips {
					name := fmt.Sprintf("replaces=%t/%s/%s/%d", replaces != "", action, kind, skip)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						sim, endpoint := simulated(t, nil)
						n := newEnroller(t, endpoint, "paul")
						with := sessionOf(t, sim, n)
						sim.Fault(stssim.Fault{Kind: kind, Action: action, Skip: skip, Times: 3})
						var serial string
						var err error
						for try := 1; ; try++ {
							if serial, err = n.run(replaces, with); err == nil {
								break
							}
							hits.Add(1)
							if !worksStill(sim) {
								t.Fatalf("no device works after: %v", err)
							}
							if try == 4 {
								sim.ClearFaults()
							}
							if try > 5 {
								t.Fatalf("it does not go on: %v", err)
							}
						}
						want := map[string]string{serial: "arn:aws:iam::111122223333:user/paul"}
						if replaces == "" {
							want[testSerial] = want[serial]
						}
						if got := deviceOwners(sim); !maps.Equal(got, want) {
							t.Errorf("devices %v, want %v", got, want)
						}
						it := n.item()
						seed, err := parsedSeed(it.Seed)
						must(t, err)
						if code, _ := seed.Code(sim.Now()); it.Enrolling.Serial != "" || !slices.Contains(
							[]string{sim.Code(serial), sim.CodeAt(serial, sim.Now().Add(-mfa.Period))}, code.Reveal()) {
							t.Error("the keyring does not have the seed of the new device")
						}
					})
				}
			}
		}
	}
}

// TestEnrollmentWithoutSpace: a keyring that cannot be written leaves no device whose seed nobody has.
func TestEnrollmentWithoutSpace(t *testing.T) {
	t.Parallel()
	for failing := range 3 {
		sim, endpoint := simulated(t, nil)
		n := newEnroller(t, endpoint, "robot")
		write, writes := n.ring.write, 0
		n.ring.write = func(data []byte) error {
			if writes++; writes == failing+1 {
				return fault.New(fault.Keyring, "no space left on device")
			}
			return write(data)
		}
		if _, err := n.run("", nil); !fault.Is(err, fault.Keyring) {
			t.Fatalf("write %d: %v", failing, err)
		}
		devices := len(sim.Devices())
		if want := map[int]int{0: 1, 1: 1, 2: 2}[failing]; devices != want {
			t.Errorf("write %d: %d devices, want %d", failing, devices, want)
		}
		if _, err := n.run("", nil); err != nil {
			t.Errorf("after write %d: %v", failing, err)
		}
		want := map[string]string{testSerial: "arn:aws:iam::111122223333:user/paul", mfaARN + "robot": "arn:aws:iam::111122223333:user/robot"}
		if got := deviceOwners(sim); !maps.Equal(got, want) {
			t.Errorf("after write %d: devices %v", failing, got)
		}
	}
}

// worksStill reports whether a device is enabled for paul.
func worksStill(sim *stssim.Sim) bool {
	for _, d := range sim.Devices() {
		if d.User == "arn:aws:iam::111122223333:user/paul" {
			return true
		}
	}
	return false
}

// TestEnrollmentDenied: a key that may not create a device leaves nothing behind. One that may create but not delete
// a device ends the enrollment, and says what is left.
func TestEnrollmentDenied(t *testing.T) {
	t.Parallel()
	deny := func(action string) (*stssim.Sim, *enroller) {
		sim, endpoint := simulated(t, func(org *stssim.Organization) {
			org.User("security", "paul").Deny = []string{"iam:" + action}
		})
		return sim, newEnroller(t, endpoint, "paul")
	}
	sim, n := deny("CreateVirtualMFADevice")
	if _, err := n.run("", nil); !fault.Is(err, fault.Denied) || n.item().Enrolling.Serial != "" || len(sim.Devices()) != 1 {
		t.Errorf("%v; devices %v", err, sim.Devices())
	}
	_, n = deny("EnableMFADevice")
	if _, err := n.run("", nil); !fault.Is(err, fault.Denied) || n.item().Enrolling.Serial != mfaARN+"paul-2" {
		t.Errorf("%v; %+v", err, n.item().Enrolling)
	}
	// AWS's example policy denies deletion without MFA: the next device has another name.
	_, endpoint := simulated(t, func(org *stssim.Organization) {
		org.User("security", "robot").DenyWithoutMFA = []string{"iam:DeleteVirtualMFADevice"}
	})
	n = newEnroller(t, endpoint, "robot")
	_, err := n.do((*errand).makeDevice, vault.DeviceRequest{Store: true}, nil)
	must(t, err)
	if serial, err := n.run("", nil); err != nil || serial != mfaARN+"robot-2" ||
		!strings.Contains(n.told.String(), "the device "+mfaARN+"robot of an unfinished enrollment was not deleted") {
		t.Errorf("%s, %v; %q", serial, err, n.told.String())
	}
	sim, n = deny("DeactivateMFADevice")
	_, err = n.run(testSerial, sessionOf(t, sim, n))
	if !fault.Is(err, fault.Denied) || deviceOwners(sim)[testSerial] == "" || n.item().Enrolling.Replaces != testSerial {
		t.Errorf("%v; devices %v", err, sim.Devices())
	}
	sim, n = deny("DeleteVirtualMFADevice")
	_, err = n.run(testSerial, sessionOf(t, sim, n))
	if owner, is := deviceOwners(sim)[testSerial]; err != nil || owner != "" || !is ||
		!strings.Contains(n.told.String(), "the old device "+testSerial+" is deactivated but not deleted") {
		t.Errorf("%v; %q; devices %v", err, n.told.String(), sim.Devices())
	}
}

// TestEnrollmentWithAPhone: without Store the keyring gets no seed, and the codes are those that a person types.
func TestEnrollmentWithAPhone(t *testing.T) {
	t.Parallel()
	sim, endpoint := simulated(t, nil)
	n := newEnroller(t, endpoint, "robot")
	a, err := n.do((*errand).makeDevice, vault.DeviceRequest{Show: true}, nil)
	must(t, err)
	phone := a.Device.Seed
	if bytes.Contains(n.ring.items[itemKey("security")], []byte(phone)) {
		t.Fatal("the keyring has the seed")
	}
	q := vault.DeviceRequest{Serial: a.Device.Serial}
	if _, err := n.do((*errand).enableDevice, q, nil); !fault.Is(err, fault.Keyring) {
		t.Errorf("codes of a seed that is not stored: %v", err)
	}
	enable := func(first, second string) error {
		_, err := n.do(func(e *errand, ctx context.Context, r ring) (*answer, error) {
			e.Code, e.NextCode = first, second
			return e.enableDevice(ctx, r)
		}, q, nil)
		return err
	}
	now := sim.Now()
	before, current := codeOf(t, phone, now.Add(-mfa.Period)), codeOf(t, phone, now)
	for _, tt := range []struct {
		first, second string
		kind          fault.Kind
	}{
		{"12345", current, fault.Usage},
		{before, "", fault.Usage},
		{current, before, fault.CodeRejected}, // in the wrong order
		{before, current, fault.CodeRejected}, // used
	} {
		if err := enable(tt.first, tt.second); !fault.Is(err, tt.kind) {
			t.Errorf("%s: %v", tt.kind, err)
		}
	}
	if sim.Count("EnableMFADevice") != 1 {
		t.Errorf("EnableMFADevice was called %d times", sim.Count("EnableMFADevice"))
	}
	must(t, os.Remove(filepath.Join(n.state, "mfa-ledger")))
	sim.Fault(stssim.Fault{Kind: stssim.ErrorAnswer, Action: "EnableMFADevice", Code: "NoSuchEntity", Status: 404})
	if err := enable(before, current); !errors.Is(err, vault.ErrNotThere) {
		t.Errorf("a device that AWS does not know yet: %v", err)
	}
	must(t, os.Remove(filepath.Join(n.state, "mfa-ledger")))
	must(t, enable(before, current))
	_, err = n.do((*errand).keepDevice, q, nil)
	if it := n.item(); err != nil || !it.Seed.IsZero() || it.Enrolling.Serial != "" {
		t.Errorf("in the end: %v, %+v", err, it)
	}
}

// TestSeedIsShownOnce: of all answers, only the one that reports a new device has its seed, and only if the request has
// Show.
func TestSeedIsShownOnce(t *testing.T) {
	t.Parallel()
	sim, endpoint := simulated(t, nil)
	n := newEnroller(t, endpoint, "robot")
	var seeds []string
	has := func(a *answer) bool {
		it := n.item()
		for _, s := range []secret.String{it.Seed, it.Enrolling.Seed} {
			if !s.IsZero() && !slices.Contains(seeds, s.Reveal()) {
				seeds = append(seeds, s.Reveal())
			}
		}
		text, err := json.Marshal(a)
		must(t, err)
		return slices.ContainsFunc(seeds, func(s string) bool { return bytes.Contains(text, []byte(s)) })
	}
	ask := func(q vault.DeviceRequest, op func(*errand, context.Context, ring) (*answer, error)) bool {
		t.Helper()
		a, err := n.do(op, q, nil)
		must(t, err)
		return has(a)
	}
	hidden, shown := vault.DeviceRequest{Store: true}, vault.DeviceRequest{Store: true, Show: true}
	named := vault.DeviceRequest{Store: true, Show: true, Serial: mfaARN + "robot"}
	if ask(hidden, (*errand).makeDevice) {
		t.Error("a seed that nobody asked for")
	}
	if !ask(shown, (*errand).makeDevice) || len(seeds) != 2 {
		t.Errorf("the seed of the second device is not shown; %d seeds: the test proves nothing", len(seeds))
	}
	for name, op := range map[string]func(*errand, context.Context, ring) (*answer, error){
		"describe": (*errand).describe, "enable": (*errand).enableDevice, "devices": (*errand).devices,
	} {
		if ask(named, op) {
			t.Errorf("%s shows a seed", name)
		}
	}
	if ask(named, (*errand).makeDevice) || len(sim.Devices()) != 2 {
		t.Errorf("the seed of an enabled device is shown again; devices %v", sim.Devices())
	}
	if ask(named, (*errand).keepDevice) || ask(named, (*errand).describe) {
		t.Error("the seed is shown in the end")
	}
	// The next device is another one, with another seed.
	if !ask(shown, (*errand).makeDevice) || len(seeds) != 3 {
		t.Errorf("%d seeds, want 3", len(seeds))
	}
}

// TestEnabledDeviceIsNotListedYet: IAM's list may be behind. A device that was just enabled keeps its seed, and the
// next try goes on with it.
func TestEnabledDeviceIsNotListedYet(t *testing.T) {
	t.Parallel()
	sim, endpoint := simulated(t, nil)
	n := newEnroller(t, endpoint, "robot")
	made, err := n.do((*errand).makeDevice, vault.DeviceRequest{Store: true}, nil)
	must(t, err)
	_, err = n.do((*errand).enableDevice, vault.DeviceRequest{Serial: made.Device.Serial}, nil)
	must(t, err)
	seed := n.item().Enrolling.Seed.Reveal()
	a, err := n.do(func(e *errand, ctx context.Context, r ring) (*answer, error) {
		e.sts = listsNothing{e.sts}
		return e.makeDevice(ctx, r)
	}, vault.DeviceRequest{Store: true}, nil)
	must(t, err)
	if got := n.item().Enrolling; !a.Device.Enabled || got.Serial != made.Device.Serial || got.Seed.Reveal() != seed {
		t.Errorf("the seed of the enabled device %s is lost: %+v; devices %v", made.Device.Serial, got, sim.Devices())
	}
}

// listsNothing is an IAM that lists no device yet.
type listsNothing struct{ sts }

func (listsNothing) Devices(context.Context, exchange.Keys, profiles.Endpoint) ([]string, error) {
	return nil, nil
}

// TestSetSeedEndsEnrollment: a seed that a person sets is the one that is used.
func TestSetSeedEndsEnrollment(t *testing.T) {
	t.Parallel()
	_, endpoint := simulated(t, nil)
	changes := []func(*errand, context.Context, ring) (*answer, error){(*errand).setSeed, (*errand).removeSeed}
	for _, change := range changes {
		n := newEnroller(t, endpoint, "robot")
		_, err := n.do((*errand).makeDevice, vault.DeviceRequest{Store: true}, nil)
		must(t, err)
		_, err = n.do(func(e *errand, ctx context.Context, r ring) (*answer, error) {
			e.Seed = testSeed
			return change(e, ctx, r)
		}, vault.DeviceRequest{}, nil)
		if err != nil || n.item().Enrolling.Serial != "" {
			t.Errorf("%v, %+v", err, n.item().Enrolling)
		}
	}
}
