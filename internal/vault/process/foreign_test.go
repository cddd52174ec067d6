package process

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

const (
	foreignID     = "AKIAFOREIGNEXAMPLE12"
	foreignSecret = "foreign/secret/foreign/secret/foreign/12"
	foreignPhrase = "the passphrase of aws-vault"
)

// awsVaultItem returns an item as aws-vault writes it.
func awsVaultItem(id, key, token string) string {
	text, _ := json.Marshal(map[string]any{"AccessKeyID": id, "SecretAccessKey": key, "SessionToken": token, "Source": "", "CanExpire": false, "Expires": "0001-01-01T00:00:00Z"})
	return string(text)
}

// foreignItems are possible items of a keyring, by name, with the error of Adopt; "" if Adopt accepts the item.
var foreignItems = map[string]struct{ data, says string }{
	"work":               {awsVaultItem(foreignID, foreignSecret, ""), ""},
	"a/b %2F c":          {awsVaultItem(foreignID, foreignSecret, ""), ""},
	"..":                 {awsVaultItem(foreignID, foreignSecret, ""), ""},
	"$(touch x)'\"":      {awsVaultItem(foreignID, foreignSecret, ""), ""},
	"old":                {`{"AccessKeyID":"` + foreignID + `","SecretAccessKey":"` + foreignSecret + `","SessionToken":"","ProviderName":""}`, ""},
	"not json":           {"AKIA: " + foreignSecret, "not the JSON that was expected"},
	"array":              {`["` + foreignSecret + `"]`, "not the JSON that was expected"},
	"empty":              {"", "not the JSON that was expected"},
	"half":               {awsVaultItem(foreignID, "", ""), "only one half of a key"},
	"other half":         {awsVaultItem("", foreignSecret, ""), "only one half of a key"},
	"null":               {"null", "only one half of a key"},
	"asia":               {awsVaultItem("ASIAFOREIGNEXAMPLE12", foreignSecret, ""), "is of a session"},
	"session":            {awsVaultItem(foreignID, foreignSecret, "token"), "it is a temporary session"},
	"no key id":          {awsVaultItem("x\n$(y)", foreignSecret, ""), "invalid access key id (16 to 128"},
	"secret with spaces": {awsVaultItem(foreignID, "a b", ""), "invalid characters"},
	"huge":               {awsVaultItem(foreignID, strings.Repeat("x", 1<<20), ""), "arger than 65536 bytes"},
	"sts.GetSessionToken,d29yaw,YXJu,1700000000": {`{"AccessKeyId":"ASIA"}`, "hidden"},
	"work session (1700000000)":                  {`{}`, "hidden"},
	"session,work,,1700000000":                   {`{}`, "hidden"},
	"oidc:https://example.com":                   {`{}`, "hidden"},
}

// fill writes the items, and returns the names of those that are not sessions.
func fill(t *testing.T, set func(keyring.Item) error, skip ...string) (names []string) {
	t.Helper()
	for name, it := range foreignItems {
		if len(skip) > 0 && name == skip[0] {
			continue
		}
		if err := set(keyring.Item{Key: name, Label: "aws-vault (" + name + ")", Data: []byte(it.data)}); err != nil {
			t.Fatal(name, err)
		}
		if it.says != "hidden" {
			names = append(names, name)
		}
	}
	return names
}

// TestAdoptFromFiles: a usable key is copied, verified and readable as a source. The others are named in the
// error, without their text.
func TestAdoptFromFiles(t *testing.T) {
	t.Parallel()
	c, ctx := fileCaller(t), t.Context()
	from := vault.Foreign{Backend: vault.File, Dir: filepath.Join(t.TempDir(), "keys")}
	if names, err := c.ForeignKeys(ctx, from); err != nil || len(names) != 0 {
		t.Fatalf("from a missing directory: %v, %v", names, err)
	}
	if _, err := os.Stat(from.Dir); err == nil {
		t.Fatal("the directory was created")
	}
	lib, err := keyring.Open(keyring.Config{AllowedBackends: []keyring.BackendType{keyring.FileBackend}, FileDir: from.Dir,
		FilePasswordFunc: keyring.FixedStringPrompt(foreignPhrase)})
	if err != nil {
		t.Fatal(err)
	}
	// A file name of ".." cannot be written; the name must not be read either.
	want := fill(t, lib.Set, "..")
	before := tree(t, from.Dir)
	names, err := c.ForeignKeys(ctx, from)
	if err != nil || !sameNames(names, want) {
		t.Fatalf("%q, %v\nwant %q", names, err, want)
	}
	for _, pass := range []string{"", "wrong"} {
		_, _, err := c.Adopt(ctx, from, secret.New(pass), "work", "work", "", profiles.Endpoint{})
		if !errors.Is(err, vault.ErrForeignPassphrase) || errors.Is(err, vault.ErrWrongPassphrase) ||
			!fault.Is(err, fault.KeyringLocked) {
			t.Errorf("passphrase %q: %v", pass, err)
		}
	}
	adoptAll(t, c, from, foreignPhrase, "..")
	for _, key := range []string{"..", "../keyring/broker-check", "nobody", strings.Repeat("x", 5000)} {
		if _, _, err := c.Adopt(ctx, from, secret.New(foreignPhrase), key, "x", "", profiles.Endpoint{}); !fault.Is(
			err,
			fault.NotFound,
		) {
			t.Errorf("%.20q: %v", key, err)
		}
	}
	// A key other than the one that the registry names is not accepted, and none replaces another.
	if _, _, err := c.Adopt(ctx, from, secret.New(foreignPhrase), "work", "fresh", "AKIAANOTHEREXAMPLE12", profiles.Endpoint{}); !errors.Is(
		err,
		vault.ErrExists,
	) {
		t.Errorf("another key: %v", err)
	}
	if _, err := c.Describe(ctx, "fresh"); !fault.Is(err, fault.NotFound) {
		t.Errorf("it was stored: %v", err)
	}
	if _, err := c.Put(ctx, vault.Key{Name: "taken", AccessKeyID: "AKIAANOTHEREXAMPLE12",
		Secret: secret.New("another/secret")}, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Adopt(ctx, from, secret.New(foreignPhrase), "work", "taken", "", profiles.Endpoint{}); !errors.Is(
		err,
		vault.ErrExists,
	) {
		t.Errorf("in the place of another: %v", err)
	}
	// AWS says that the key does not belong to an IAM user.
	if _, _, err := c.Adopt(ctx, from, secret.New(foreignPhrase), "work", "root", "", profiles.Endpoint{Region: "arn:aws:iam::111122223333:root"}); !fault.Is(
		err,
		fault.Failed,
	) {
		t.Errorf("a root key: %v", err)
	}
	if after := tree(t, from.Dir); !reflect.DeepEqual(before, after) {
		t.Error("the foreign keyring was changed")
	}
	if err := os.Chmod(from.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ForeignKeys(ctx, from); !fault.Is(err, fault.Keyring) {
		t.Errorf("a directory that is open to others: %v", err)
	}
}

// adoptAll tries every item.
func adoptAll(t *testing.T, c *vault.Caller, from vault.Foreign, pass string, skip ...string) {
	t.Helper()
	ctx := t.Context()
	for name, it := range foreignItems {
		if it.says == "hidden" || len(skip) > 0 && name == skip[0] {
			continue
		}
		id, who, err := c.Adopt(ctx, from, secret.New(pass), name, name, "", profiles.Endpoint{})
		if it.says != "" {
			if err == nil || !strings.Contains(err.Error(), it.says) || strings.Contains(err.Error(), foreignSecret) {
				t.Errorf("%q: %v", name, err)
			}
			if _, err := c.Describe(ctx, name); !fault.Is(err, fault.NotFound) {
				t.Errorf("%q was stored: %v", name, err)
			}
			continue
		}
		if err != nil || id != foreignID || who.ARN != "arn:aws:iam::111122223333:user/paul" {
			t.Errorf("%q: %s, %+v, %v", name, id, who, err)
			continue
		}
		if info, err := c.Describe(ctx, name); err != nil || info.AccessKeyID != foreignID {
			t.Errorf("%q: %+v, %v", name, info, err)
		}
		// Repeating is fine.
		if _, _, err := c.Adopt(ctx, from, secret.New(pass), name, name, foreignID, profiles.Endpoint{}); err != nil {
			t.Errorf("%q again: %v", name, err)
		}
	}
}

func sameNames(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// tree returns every file with its content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		files[e.Name()] = string(data)
	}
	return files
}
