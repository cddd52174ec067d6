package audit

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestFieldsAreDocumented: docs/audit-log.md has each field of a line, and each delivery.
func TestFieldsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/audit-log.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(text), "\n## Fields\n")
	fields := 0
	for _, of := range []any{Event{}, Caller{}, Process{}} {
		for field := range reflect.TypeOf(of).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			if fields++; !strings.Contains(page, "`"+name+"`") {
				t.Errorf("the page does not have the field %s", name)
			}
		}
	}
	if fields < 25 {
		t.Errorf("only %d fields: the test proves nothing", fields)
	}
	for _, delivery := range []Delivery{Reply, Endpoint, PrivateFile, Published, Console, Door, Token} {
		if !strings.Contains(page, "`"+string(delivery)+"`") {
			t.Errorf("the page does not have the delivery %s", delivery)
		}
	}
}
