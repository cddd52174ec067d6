package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/system"
	"broker/internal/vault"
)

const (
	madeID     = "AKIANEWKEYEXAMPLE222"
	madeSecret = "the/secret/of/the/new/key/EXAMPLE2222222"
)

// fakeIAM is the keys of one user.
type fakeIAM struct {
	fakeAWS
	ids    []string
	used   map[string]exchange.LastUse
	refuse map[string]error // by call
	signed []string         // who signed each call
	sees   bool             // each call is the last use of the key that signed it
	made   exchange.Keys    // the answer of CreateAccessKey, if it is not the usual one
}

func (f *fakeIAM) call(name string, keys exchange.Keys) error {
	signer := keys.AccessKeyID
	if !keys.Token.IsZero() {
		signer = "session"
	}
	f.signed = append(f.signed, name+" "+signer)
	if f.sees {
		f.used[signer] = exchange.LastUse{At: time.Now().UTC().Truncate(time.Second), Service: "iam", Region: "us-east-1"}
	}
	return f.refuse[name]
}

func (f *fakeIAM) AccessKeys(
	_ context.Context, k exchange.Keys, _ profiles.Endpoint,
) (l []exchange.AccessKey, err error) {
	for _, id := range f.ids {
		l = append(l, exchange.AccessKey{ID: id, Active: true})
	}
	return l, f.call("list", k)
}

func (f *fakeIAM) KeyLastUsed(
	_ context.Context, k exchange.Keys, _ profiles.Endpoint, id string,
) (exchange.LastUse, error) {
	used := f.used[id]
	return used, f.call("used "+id, k)
}

func (f *fakeIAM) CreateAccessKey(_ context.Context, k exchange.Keys, _ profiles.Endpoint) (exchange.Keys, error) {
	err := f.call("create", k)
	if err == nil || err == lost {
		f.ids = append(f.ids, madeID)
	}
	if f.made.AccessKeyID != "" {
		return f.made, err
	}
	return exchange.Keys{AccessKeyID: madeID, Secret: secret.New(madeSecret)}, err
}

func (f *fakeIAM) SetKeyStatus(_ context.Context, k exchange.Keys, _ profiles.Endpoint, id string, _ bool) error {
	return f.known("status", k, id)
}

func (f *fakeIAM) DeleteKey(_ context.Context, k exchange.Keys, _ profiles.Endpoint, id string) error {
	if err := f.known("delete", k, id); err != nil {
		return err
	}
	f.ids = f.ids[:len(f.ids)-1]
	return nil
}

func (f *fakeIAM) known(name string, k exchange.Keys, id string) error {
	if err := f.call(name, k); err != nil {
		return err
	}
	if id != f.ids[len(f.ids)-1] || len(f.ids) == 1 {
		return &fault.Error{Kind: fault.Failed, Message: "no such key", Err: exchange.ErrNotThere}
	}
	return nil
}

// keyErrand returns an errand on a ring with one key, and that ring.
func keyErrand(t *testing.T, iam *fakeIAM, write func([]byte) error) (*errand, *badRing) {
	t.Helper()
	data, err := encodeItem(item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New(testSecret)})
	must(t, err)
	r := &badRing{items: map[string][]byte{itemKey("security"): data}, write: write}
	if write == nil {
		r.write = func(data []byte) error { r.items[itemKey("security")] = data; return nil }
	}
	e := newErrand(t, &iam.fakeAWS)
	e.sts, e.Source, e.KeyID, e.StateDir = iam, "security", testKeyID, ""
	return e, r
}

// TestNewKey: the new key is stored beside the one in use, and its secret is not in the answer.
func TestNewKey(t *testing.T) {
	for _, with := range []*vault.Credentials{nil, {AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "s", SessionToken: "t"}} {
		iam := &fakeIAM{ids: []string{testKeyID}}
		e, r := keyErrand(t, iam, nil)
		e.With = with
		a, err := e.newKey(t.Context(), r)
		if err != nil || a.Info.AccessKeyID != madeID {
			t.Fatalf("got %v, %v", a, err)
		}
		it, err := load(t.Context(), r, "security")
		if err != nil || it.AccessKeyID != testKeyID || it.Second.AccessKeyID != madeID ||
			it.Second.Secret.Reveal() != madeSecret || it.Secret.Reveal() != testSecret {
			t.Errorf("stored %v, %v", it, err)
		}
		signer := testKeyID
		if with != nil {
			signer = "session"
		}
		for _, call := range iam.signed {
			if !strings.HasSuffix(call, " "+signer) {
				t.Errorf("%s, not by %s", call, signer)
			}
		}
		if _, err := e.newKey(t.Context(), r); !errors.Is(err, rotate.ErrNotMade) || len(iam.ids) != 2 {
			t.Errorf("a third key: %v", err)
		}
	}
}

// TestNewKeyNotStored: a key that the keyring does not take is deleted again, also if the keyring hangs. If that fails
// too, the error names the key. No error has the secret.
func TestNewKeyNotStored(t *testing.T) {
	full := func(data []byte) error { return fault.New(fault.Keyring, "no space left for %s", data) }
	for name, tc := range map[string]struct {
		write  func([]byte) error
		refuse map[string]error
		left   int    // keys in IAM
		made   bool   // there may be a key whose secret nobody has
		says   string // part of the error
	}{
		"full":          {write: full, left: 1, says: "so it was deleted again"},
		"locked":        {write: func([]byte) error { return fault.New(fault.KeyringLocked, "locked") }, left: 1, says: "deleted"},
		"hangs":         {write: func([]byte) error { time.Sleep(time.Hour); return nil }, left: 1, says: "deleted again"},
		"panics":        {write: func([]byte) error { panic("x") }, left: 1, says: "so it was deleted again"},
		"not deletable": {full, map[string]error{"delete": nil}, 2, true, "AWS made the key " + madeID},
		"answer lost":   {nil, map[string]error{"create": lost}, 2, true, ""},
		"denied":        {nil, map[string]error{"create": fault.New(fault.Denied, "denied")}, 1, false, "denied"},
		"may not delete": {nil, map[string]error{"delete": fault.New(fault.Denied, "denied")}, 1, false,
			"may not call iam:DeleteAccessKey"},
		"may not deactivate": {nil, map[string]error{"status": fault.New(fault.Denied, "denied")}, 1, false,
			"may not call iam:UpdateAccessKey"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				iam := &fakeIAM{ids: []string{testKeyID}, refuse: tc.refuse}
				e, r := keyErrand(t, iam, tc.write)
				if err, is := tc.refuse["delete"]; is && err == nil { // only the second time
					iam.refuse = map[string]error{}
					write := r.write
					r.write = func(data []byte) error {
						iam.refuse["delete"] = fault.New(fault.Network, "no connection")
						return write(data)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 44*time.Second)
				defer cancel()
				_, err := e.newKey(ctx, r)
				if err == nil || !strings.Contains(err.Error(), tc.says) || errors.Is(err, rotate.ErrNotMade) == tc.made {
					t.Errorf("got %v", err)
				}
				if err != nil && strings.Contains(failed(err, e.hide).Fault.Message, madeSecret) {
					t.Errorf("the error has the secret: %v", err)
				}
				if len(iam.ids) != tc.left {
					t.Errorf("IAM has the keys %v", iam.ids)
				}
				time.Sleep(2 * time.Hour) // the hanging one
			})
		})
	}
}

// TestNewKeyLies: an answer that names the key in use, or what the keyring could not read again, spoils no item and
// deletes no key.
func TestNewKeyLies(t *testing.T) {
	for name, id := range map[string]string{
		"the key in use": testKeyID, "a session": "ASIANEWKEYEXAMPLE222", "no key id": "akianewkeyexample222",
	} {
		iam := &fakeIAM{ids: []string{testKeyID}}
		iam.made = exchange.Keys{AccessKeyID: id, Secret: secret.New(madeSecret)}
		e, r := keyErrand(t, iam, nil)
		e.With = &vault.Credentials{AccessKeyID: "ASIAEXAMPLE222222222", SecretAccessKey: "x", SessionToken: "x"}
		before := string(r.items[itemKey("security")])
		_, err := e.newKey(t.Context(), r)
		if !fault.Is(err, fault.BadAnswer) || errors.Is(err, rotate.ErrNotMade) {
			t.Errorf("%s: %v", name, err)
		}
		if got := string(r.items[itemKey("security")]); got != before {
			t.Errorf("%s: the item is now %s", name, got)
		}
		if len(iam.signed) != 3 || iam.signed[2] != "create session" {
			t.Errorf("%s: after the answer, more was done: %v", name, iam.signed)
		}
	}
}

// TestKeyInUseIsKept: the vault process neither deactivates, deletes nor forgets the key that the registry names.
func TestKeyInUseIsKept(t *testing.T) {
	iam := &fakeIAM{ids: []string{testKeyID}}
	e, r := keyErrand(t, iam, nil)
	e.Key = testKeyID
	for name, do := range map[string]func(context.Context, ring) (*answer, error){
		"deactivate": e.keyStatus, "delete": e.deleteKey, "forget": e.forgetKey,
	} {
		if _, err := do(t.Context(), r); !fault.Is(err, fault.Internal) || len(iam.signed) > 0 {
			t.Errorf("%s: %v, %v", name, err, iam.signed)
		}
	}
}

// TestRegistryNamesKeyInUse: a request that lies about the key in use cannot delete the key that the registry names.
func TestRegistryNamesKeyInUse(t *testing.T) {
	iam := &fakeIAM{ids: []string{testKeyID}}
	e, r := keyErrand(t, iam, nil)
	_, err := e.newKey(t.Context(), r)
	must(t, err)
	registry := filepath.Join(t.TempDir(), "config")
	must(t, os.WriteFile(registry, []byte("[source security]\naccess_key_id = "+testKeyID+"\n"), 0o600))
	it, err := load(t.Context(), r, "security")
	must(t, err)
	it.belongs = belongs{Registry: registry}
	r.items[itemKey("security")], err = encodeItem(it)
	must(t, err)
	e.Registry = system.RealPath(registry)
	calls := len(iam.signed)
	e.KeyID, e.Key = madeID, testKeyID // the registry names the other one
	for name, do := range map[string]func(context.Context, ring) (*answer, error){
		"deactivate": e.keyStatus, "delete": e.deleteKey, "forget": e.forgetKey,
	} {
		if _, err := do(t.Context(), r); !fault.Is(err, fault.Internal) || len(iam.signed) > calls {
			t.Errorf("%s: %v, %v", name, err, iam.signed[calls:])
		}
	}
	e.KeyID, e.Key = testKeyID, madeID
	_, err = e.forgetKey(t.Context(), r)
	must(t, err)
}

// TestSharedKeyIsKept: a key that another source in the registry has is not changed, even if the section of that source
// is invalid, or the registry cannot be read.
func TestSharedKeyIsKept(t *testing.T) {
	for name, rest := range map[string]string{
		"another source":  "[source other]\naccess_key_id = " + testKeyID + "\n",
		"an invalid one":  "[source other]\nsession = never\naccess_key_id = " + testKeyID + "\n",
		"a damaged file":  "[source other\n",
		"no other source": "",
	} {
		iam := &fakeIAM{ids: []string{madeID, testKeyID}}
		e, r := keyErrand(t, iam, nil)
		registry := filepath.Join(t.TempDir(), "config")
		must(t, os.WriteFile(registry, []byte("[source security]\naccess_key_id = "+madeID+"\n"+rest), 0o600))
		data, err := encodeItem(item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New(testSecret),
			Second: exchange.Keys{AccessKeyID: madeID, Secret: secret.New(madeSecret)}, belongs: belongs{Registry: registry}})
		must(t, err)
		r.items[itemKey("security")] = data
		e.Registry, e.KeyID, e.Key = system.RealPath(registry), madeID, testKeyID
		for step, do := range map[string]func(context.Context, ring) (*answer, error){
			"deactivate": e.keyStatus, "delete": e.deleteKey,
		} {
			iam.ids = []string{madeID, testKeyID}
			if _, err := do(t.Context(), r); (err == nil) != (rest == "") {
				t.Errorf("%s, %s: %v", name, step, err)
			}
		}
		if rest != "" && len(iam.signed) > 0 {
			t.Errorf("%s: %v", name, iam.signed)
		}
	}
}

// TestForgetKey: of two keys, the one that the registry does not name is removed, whichever was stored first.
func TestForgetKey(t *testing.T) {
	for inUse, other := range map[string]string{testKeyID: madeID, madeID: testKeyID} {
		iam := &fakeIAM{ids: []string{testKeyID}}
		e, r := keyErrand(t, iam, nil)
		_, err := e.newKey(t.Context(), r)
		must(t, err)
		e.KeyID, e.Key = inUse, other
		for range 2 { // forgetting it twice is no error
			_, err := e.forgetKey(t.Context(), r)
			must(t, err)
		}
		it, err := load(t.Context(), r, "security")
		if err != nil || it.AccessKeyID != inUse || it.Second.AccessKeyID != "" {
			t.Errorf("stored %v, %v", it, err)
		}
	}
}

// TestKeysOfUser: a key that IAM lists but no longer has is left out, unless the user may not ask for the last use at
// all. Our own last use is that of an earlier call.
func TestKeysOfUser(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	iam := &fakeIAM{ids: []string{madeID, testKeyID}, used: map[string]exchange.LastUse{
		testKeyID: {At: now.Add(-time.Hour), Service: "s3"}}}
	iam.refuse = map[string]error{"used " + madeID: fault.New(fault.Denied, "AWS denied it: AccessDenied: User: paul is not "+
		"authorized to perform: iam:GetAccessKeyLastUsed on resource: access key "+madeID)}
	e, r := keyErrand(t, iam, nil)
	a, err := e.keys(t.Context(), r)
	if err != nil || len(a.Keys.Listed) != 1 || a.Keys.Listed[0].ID != testKeyID || !a.Keys.Listed[0].Ours.IsZero() ||
		!a.Keys.Listed[0].Stored || a.Keys.Listed[0].Service != "s3" {
		t.Fatalf("got %+v, %v", a, err)
	}
	e.signs(exchange.Keys{AccessKeyID: testKeyID}) // StateDir is empty: nothing is written
	e.StateDir = t.TempDir()
	e.signs(exchange.Keys{AccessKeyID: testKeyID})
	a, err = e.keys(t.Context(), r)
	if err != nil || a.Keys.Listed[0].Ours.Before(now) {
		t.Errorf("got %+v, %v", a, err)
	}
	iam.refuse["used "+testKeyID] = fault.New(fault.Denied, "you may not ask")
	if _, err := e.keys(t.Context(), r); !fault.Is(err, fault.Denied) {
		t.Errorf("got %v", err)
	}
}

// TestLastUseRefused: a key that exists is listed, even if AWS refuses to tell its last use. If AWS does
// not know the key that signs, the list is not complete.
func TestLastUseRefused(t *testing.T) {
	iam := &fakeIAM{ids: []string{madeID, testKeyID}}
	iam.refuse = map[string]error{"used " + madeID: fault.New(fault.Denied, "AWS denied it: AccessDenied: User: paul is not "+
		"authorized to perform: iam:GetAccessKeyLastUsed on resource: user paul with an explicit deny")}
	e, r := keyErrand(t, iam, nil)
	a, err := e.keys(t.Context(), r)
	if err != nil || len(a.Keys.Listed) != 2 || a.Keys.Listed[1].ID != madeID || !a.Keys.Listed[1].Untold ||
		a.Keys.Listed[0].Untold {
		t.Fatalf("got %+v, %v", a, err)
	}
	iam.refuse["used "+madeID] = &fault.Error{Kind: fault.Denied, Message: "unknown", Err: exchange.ErrUnknownKey}
	if _, err := e.keys(t.Context(), r); !errors.Is(err, exchange.ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
}

// TestOtherUseBySlowClock: if the clock of this machine is behind and nobody knows that yet, the use by another
// machine is not taken for that of the look itself.
func TestOtherUseBySlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const behind = 10 * time.Minute
		iam := &slowClock{fakeIAM: fakeIAM{ids: []string{testKeyID}, used: map[string]exchange.LastUse{}}, by: behind}
		e, r := keyErrand(t, &iam.fakeIAM, nil)
		e.sts = iam
		iam.used[testKeyID] = exchange.LastUse{At: time.Now().Add(behind - 5*time.Minute).UTC().Truncate(time.Second),
			Service: "sts", Region: "eu-west-1"}
		a, err := e.keys(t.Context(), r)
		must(t, err)
		if got := a.Keys.Listed[0]; !got.UsedElsewhere() {
			t.Errorf("got %+v", got)
		}
	})
}

// slowClock is a fakeIAM whose first answer shows that our clock is behind.
type slowClock struct {
	fakeIAM
	by time.Duration
}

func (f *slowClock) KeyLastUsed(
	ctx context.Context, k exchange.Keys, at profiles.Endpoint, id string,
) (exchange.LastUse, error) {
	f.offset = f.by
	return f.fakeIAM.KeyLastUsed(ctx, k, at, id)
}

// TestOtherUseOfSigner: without an MFA session, the key in use signs the calls. They hide the use by another machine
// neither from this look at the keys, nor from a later one.
func TestOtherUseOfSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iam := &fakeIAM{ids: []string{testKeyID}, used: map[string]exchange.LastUse{}, sees: true}
		e, r := keyErrand(t, iam, nil)
		e.StateDir = t.TempDir()
		e.signs(exchange.Keys{AccessKeyID: testKeyID})
		time.Sleep(8 * time.Minute)
		other := exchange.LastUse{At: time.Now().UTC().Truncate(time.Second), Service: "sts", Region: "eu-west-1"}
		iam.used[testKeyID] = other
		for _, look := range []string{"this look", "a later look"} {
			time.Sleep(time.Hour)
			a, err := e.keys(t.Context(), r)
			must(t, err)
			got := a.Keys.Listed[0]
			if !got.UsedElsewhere() || !got.Used.Equal(other.At) || got.Region != other.Region {
				t.Errorf("%s shows %+v", look, got)
			}
		}
	})
}
