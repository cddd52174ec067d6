package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyFromCSV checks that the file of the AWS console is read, and that the error for another file is true.
func TestKeyFromCSV(t *testing.T) {
	const header, row = "\ufeffAccess key ID,Secret access key\n", "AKIAIOSFODNN7EXAMPLE, fake/secret\n"
	for name, c := range map[string]struct{ file, wrong string }{
		"as AWS has it":  {header + row, ""},
		"other columns":  {"User,Secret access key, ACCESS KEY ID\npaul,fake/secret,AKIAIOSFODNN7EXAMPLE\n", ""},
		"empty":          {"", "is not the accessKeys.csv"},
		"header alone":   {header, "is not the accessKeys.csv"},
		"two keys":       {header + row + row, "holds 2 keys; leave one"},
		"another file":   {"root:x:0:0\ndaemon:x:1:1\nbin:x:2:2\n", "has no columns `Access key ID` and `Secret access key`"},
		"without secret": {header + "AKIAIOSFODNN7EXAMPLE\n", "has an empty `Access key ID` or `Secret access key`"},
		"empty secret":   {header + "AKIAIOSFODNN7EXAMPLE, \n", "has an empty `Access key ID` or `Secret access key`"},
	} {
		path := filepath.Join(t.TempDir(), "accessKeys.csv")
		if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := keyFromCSV(path)
		switch {
		case c.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), path+" "+c.wrong)):
			t.Errorf("%s: %v", name, err)
		case c.wrong == "" && (err != nil || key.id != "AKIAIOSFODNN7EXAMPLE" || key.secret.Reveal() != "fake/secret"):
			t.Errorf("%s: %q, %v", name, key.id, err)
		}
	}
}
