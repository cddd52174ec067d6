package rotate

import (
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
)

// TestTwoDaemonsOneStateDirectory: of two daemons that share a state directory, only one rotates at a time. The lock
// ends with the rotation.
func TestTwoDaemonsOneStateDirectory(t *testing.T) {
	dir := t.TempDir()
	first, second := New(dir, "registry", calm()), New(dir, "another registry", calm())
	end, err := first.begin("security")
	if err != nil {
		t.Fatal(err)
	}
	w := calm()
	err = second.Start(t.Context(), "security", w, time.Hour)
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "another daemon") || w.point > 0 {
		t.Errorf("got %v after %d calls", err, w.point)
	}
	end()
	if end, err = second.begin("security"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.begin("security"); err == nil {
		t.Error("two rotations at a time")
	}
	end()
	if _, err := record.Read(dir+"/"+lockName, maxRecord, record.Private); err != nil {
		t.Errorf("the lock file: %v", err)
	}
}

// TestNoLock: without the lock, no step is made, and the next attempt is not refused.
func TestNoLock(t *testing.T) {
	w := calm()
	r := New("\x00", "registry", w)
	for range 2 {
		err := r.Start(t.Context(), "security", w, time.Hour)
		if err == nil || !strings.Contains(err.Error(), "cannot be locked") || w.point > 0 {
			t.Errorf("got %v after %d calls", err, w.point)
		}
	}
}
