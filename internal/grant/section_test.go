//go:build linux

package grant

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSectionIsRemovedFromAFormerLinkTarget: if the credentials file was a link, a section is also removed from
// the link's former target. The next refresh and a lock do this, in this daemon and in the next.
func TestSectionIsRemovedFromAFormerLinkTarget(t *testing.T) {
	for name, take := range map[string]func(*Keeper) error{
		"lock": (*Keeper).Shut,
		"renewal": func(k *Keeper) error {
			k.Broker.Lock()
			k.Broker.Unlock() // so that a new session is fetched
			k.again(func(*held) bool { return true })
			k.renew(t.Context())
			k.renewals.Wait()
			return nil
		},
		"lock of the next daemon": func(k *Keeper) error {
			next := keeper(t, k.StateDir)
			next.adopt()
			return next.Shut()
		},
	} {
		dir := t.TempDir()
		k := keeper(t, dir)
		old, now := filepath.Join(dir, "old"), filepath.Join(dir, "now")
		if err := errors.Join(os.WriteFile(old, nil, 0o600), os.WriteFile(now, nil, 0o600),
			os.Symlink(old, k.Files.Credentials)); err != nil {
			t.Fatal(err)
		}
		k.publish(t)
		if err := errors.Join(os.Remove(k.Files.Credentials), os.Symlink(now, k.Files.Credentials)); err != nil {
			t.Fatal(err)
		}
		if err := take(k); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(old); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file from before holds %q, %v", name, text, err)
		}
	}
}
