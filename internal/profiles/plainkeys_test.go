//go:build unix

package profiles

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/secret"
)

const plainPair = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x/y+z==\n"

// TestRemovePlainKey checks that the key goes, that the section goes if it has nothing else, that every other byte
// stays, and that the pieces restore the original.
func TestRemovePlainKey(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"alone", "[a]\n" + plainPair, ""},
		{"first of two sections", "[a]\n" + plainPair + "\n[b]\nregion = x\n", "[b]\nregion = x\n"},
		{"last of two sections", "[b]\nregion = x\n\n[a]\n" + plainPair, "[b]\nregion = x\n"},
		{"with a region", "[a]\nregion = x\n" + plainPair, "[a]\nregion = x\n"},
		{"with a comment in the section", "[a]\n# mine\n" + plainPair, "[a]\n# mine\n"},
		{"with a comment for the next section", "[a]\n" + plainPair + "\n# next\n[b]\nregion = x\n", "# next\n[b]\nregion = x\n"},
		{"twice", "[a]\n" + plainPair + "[b]\nregion = x\n[a]\n" + plainPair, "[b]\nregion = x\n"},
		{"CRLF", strings.ReplaceAll("[a]\n"+plainPair+"[b]\nregion = x\n", "\n", "\r\n"), "[b]\r\nregion = x\r\n"},
		{"no final newline", "[b]\nregion = x\n[a]\n" + strings.TrimSpace(plainPair), "[b]\nregion = x\n"},
		{"odd spelling", "[a]\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAws_Secret_Access_Key : x\nregion=x\n", "[a]\nregion=x\n"},
		{"of nobody", "[b]\nregion = x\n", "[b]\nregion = x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := RemovePlainKey([]byte(tt.src), SectionCredentials, "a")
			if err != nil || string(got) != tt.want {
				t.Fatalf("%q, %v; want %q", got, err, tt.want)
			}
			pieces, err := pieces([]byte(tt.src), got)
			if err != nil {
				t.Fatal(err)
			}
			if back := restore(got, pieces); string(back) != tt.src {
				t.Errorf("%q comes back as %q", tt.src, back)
			}
		})
	}
}

// TestPiecesRefuses checks that pieces returns an error if the file was changed, and not only shortened.
func TestPiecesRefuses(t *testing.T) {
	for _, after := range []string{"a\nB\nc\n", "a\nc\nd\n", "a\nc"} {
		if _, err := pieces([]byte("a\nb\nc\n"), []byte(after)); err == nil {
			t.Errorf("pieces accepted %q as the rest of the file", after)
		}
	}
}

func FuzzPieces(f *testing.F) {
	f.Add([]byte("a\nb\n\nb\nc"), uint64(5))
	f.Fuzz(func(t *testing.T, before []byte, which uint64) {
		var after []byte
		for i, line := range bytes.SplitAfter(before, []byte("\n")) {
			if which>>(i%64)&1 == 0 {
				after = append(after, line...)
			}
		}
		pieces, err := pieces(before, after)
		if err != nil {
			t.Fatal(err)
		}
		if back := restore(after, pieces); !bytes.Equal(back, before) {
			t.Errorf("%q comes back as %q", before, back)
		}
	})
}

// TestPlainKeys checks that every complete long-lived key is found, with its section's device, and that each other
// section is left, with the reason.
func TestPlainKeys(t *testing.T) {
	dir := t.TempDir()
	files := Files{Config: filepath.Join(dir, "config"), Credentials: filepath.Join(dir, "credentials")}
	for path, text := range map[string]string{
		files.Credentials: "[default]\n" + plainPair + "[long]\n" + plainPair + "aws_mfa_device = arn:aws:iam::111122223333:mfa/x\n" +
			"[session]\n" + strings.Replace(plainPair, "AKIA", "ASIA", 1) + "aws_session_token = t\n[half]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n[none]\nregion = x\n",
		files.Config: "[profile inconfig]\n" + plainPair + "mfa_serial = arn:aws:iam::111122223333:mfa/y\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, left, err := PlainKeys(files)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range found {
		got = append(got, k.Profile+" "+k.Kind+" "+k.MFASerial)
	}
	if want := "default credentials |long credentials arn:aws:iam::111122223333:mfa/x|inconfig profile arn:aws:iam::111122223333:mfa/y"; strings.Join(got, "|") != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if len(left) != 2 || !strings.Contains(left[0].Text, "temporary") || !strings.Contains(left[1].Text, "one half") {
		t.Errorf("left: %v", left)
	}
}

// TestSetPlainKey checks that a key goes back into its section, and that it never replaces another key.
func TestSetPlainKey(t *testing.T) {
	key := Plain{Profile: "a", Kind: SectionCredentials, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: secret.New("x/y+z==")}
	got, err := setPlainKey([]byte("[a]\nregion = x\n"), key)
	if err != nil || string(got) != "[a]\nregion = x\n"+plainPair {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := setPlainKey(got, key); err != nil || !bytes.Equal(again, got) {
		t.Errorf("the second call: %q, %v", again, err)
	}
	if got, err := setPlainKey([]byte("[a]\naws_access_key_id = AKIAANOTHER\n"), key); err == nil {
		t.Errorf("another key was replaced: %q", got)
	}
}
