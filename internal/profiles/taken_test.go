package profiles

import (
	"bytes"
	"slices"
	"testing"

	"broker/internal/fault"
	"broker/internal/secret"
)

// TestTakeOut checks that removed keys go back byte for byte, or key by key into a file that was edited in the
// meantime, and that a key that the user replaced is not removed.
func TestTakeOut(t *testing.T) {
	const src = "[a]\naws_access_key_id = AKIAONE\naws_secret_access_key = one\nregion = x\n\n[b]\naws_session_token = t\n"
	key := Plain{Profile: "a", Kind: SectionCredentials, AccessKeyID: "AKIAONE", Secret: secret.New("one")}
	temporary := func(dst []byte) ([]byte, error) { return RemoveSection(dst, SectionCredentials, "b") }
	dst, out, err := TakeOut("file", []byte(src), []Plain{key}, temporary)
	if err != nil || string(dst) != "[a]\nregion = x\n" || len(out.Keys) != 1 || out.File != "file" {
		t.Fatalf("%q %v", dst, err)
	}
	for _, now := range []string{string(dst), src} {
		if back, exact, err := out.PutBack([]byte(now)); err != nil || !exact || string(back) != src {
			t.Errorf("%q: %q %v %v", now, back, exact, err)
		}
	}
	back, exact, err := out.PutBack([]byte("[a]\nregion = y\n"))
	if err != nil || exact || !bytes.Contains(back, []byte("AKIAONE")) || !bytes.Contains(back, []byte("region = y")) {
		t.Errorf("edited: %q %v %v", back, exact, err)
	}
	if _, _, err := out.PutBack([]byte("[a]\naws_access_key_id = AKIATWO\n")); !fault.Is(err, fault.Config) {
		t.Errorf("another key: %v", err)
	}

	none := func(dst []byte) ([]byte, error) { return dst, nil }
	replaced := bytes.ReplaceAll([]byte(src), []byte("AKIAONE"), []byte("AKIATWO"))
	if dst, _, err := TakeOut("file", replaced, []Plain{key}, none); !fault.Is(err, fault.Failed) || dst != nil {
		t.Errorf("replaced in the meantime: %q %v", dst, err)
	}

	if left, files := WithoutKeys([]TakenOut{out}, []string{"AKIAONE"}); len(left) != 0 || !slices.Equal(files, []string{"file"}) {
		t.Errorf("without its key: %v %v", left, files)
	}
	if left, files := WithoutKeys([]TakenOut{out}, []string{"AKIATWO"}); len(left) != 1 || len(files) != 0 {
		t.Errorf("without another: %v %v", left, files)
	}
}
