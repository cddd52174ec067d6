//go:build clients && unix

package profiles

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

const jsReaders = `
const fs = require("fs");
const v3 = require("@smithy/shared-ini-file-loader");
const AWS = require("aws-sdk/lib/core");
require("aws-sdk/lib/node_loader");
(async () => {
  const out = [];
  for (const [config, credentials] of JSON.parse(fs.readFileSync(0))) {
    const three = await v3.loadSharedConfigFiles({ filepath: credentials, configFilepath: config, ignoreCache: true });
    const ini = new AWS.IniLoader();
    const attempt = (options) => { try { return ini.loadFrom(options); } catch (e) { return { error: e.message }; } };
    out.push({
      "v3 config": three.configFile, "v3 credentials": three.credentialsFile,
      "v2 config": attempt({ filename: config, isConfig: true }), "v2 credentials": attempt({ filename: credentials }),
    });
  }
  console.log(JSON.stringify(out));
})();
`

// TestClientJavaScriptReadsTheSameAfterLink compares what versions 2 and 3 of the SDK for JavaScript read before
// and after link.
func TestClientJavaScriptReadsTheSameAfterLink(t *testing.T) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED, NOT PROVEN: %s is not installed", tool)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, "@smithy/shared-ini-file-loader@4", "aws-sdk@2").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: npm cannot install the SDKs: %v\n%s", err, out)
	}
	write(t, filepath.Join(dir, "read.js"), jsReaders)
	var names []string
	var in [][2]string
	for name, both := range beforeAndAfter(t) {
		names = append(names, name)
		for _, f := range both {
			in = append(in, [2]string{f.Config, f.Credentials})
		}
	}
	raw, _ := json.Marshal(in)
	cmd := exec.Command("node", "read.js")
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, bytes.NewReader(raw), os.Stderr
	cmd.Env = append(os.Environ(), "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil || len(all) != len(in) {
		t.Fatal(len(all), err)
	}
	helpers := 0
	for i, name := range names {
		before, after := all[2*i], all[2*i+1]
		for reader := range before {
			if before[reader]["error"] != nil {
				continue // it cannot read the file, linked or not
			}
			if after[reader]["error"] != nil {
				t.Errorf("%s: %s fails now: %v", name, reader, after[reader]["error"])
				continue
			}
			helpers += asked(t, name+" ("+reader+")", before[reader], after[reader])
			if was, is := withoutRoles(before[reader]), withoutRoles(after[reader]); !reflect.DeepEqual(was, is) {
				t.Errorf("%s: %s was\n%v\nand is now\n%v", name, reader, was, is)
			}
		}
	}
	if helpers < 80 {
		t.Errorf("the SDKs see only %d helpers", helpers)
	}
}
