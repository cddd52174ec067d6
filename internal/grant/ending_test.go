package grant

import (
	"testing"
	"time"

	"broker/internal/session"
)

func TestEndingText(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 59, 0, time.Local)
	for _, tt := range []struct {
		login string
		users []string
		want  string
	}{
		{"security", nil, "the session of security ends at 15:04; to renew it: broker login security"},
		{"security", []string{"terraform (pid 4711)"},
			"the session of security ends at 15:04; terraform (pid 4711) uses it; to renew it: broker login security"},
		{"a b", []string{"a", "b"}, "the session of a b ends at 15:04; a and b use it; to renew it: broker login 'a b'"},
		{"x\x1b", []string{"a", "b", "c"},
			`the session of x\x1b ends at 15:04; a and 2 others use it; to renew it: broker login 'x\x1b'`},
	} {
		if got := (Ending{session.Ending{Login: tt.login, Expires: at}, tt.users}).String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
