package daemon

import (
	"testing"

	"broker/internal/fault"
	"broker/internal/session"
	"broker/internal/wire"
)

// TestRouteOfAFailure checks that only a failed call to AWS names its route: a program took none, and its hint stays.
func TestRouteOfAFailure(t *testing.T) {
	d := &Daemon{Config: Config{Setup: func() wire.Setup { return wire.Setup{} }}}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{fault.New(fault.Network, "cannot reach STS"), true},
		{fault.New(fault.BadAnswer, "STS answered with a page"), true},
		{fault.New(fault.Denied, "STS said no"), false},
		{fault.New(fault.BadAnswer, "a program: %w", session.ErrProgram).WithHint("broker explain prod"), false},
	} {
		if got := d.failure(tt.err, nil, nil); (got.Route != nil) != tt.want {
			t.Errorf("%v: route %+v", tt.err, got.Route)
		}
	}
}
