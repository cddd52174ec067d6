//go:build unix

package profiles

import (
	"fmt"
	"strings"
	"testing"

	"broker/internal/fault"
)

// TestListOfLongChains checks that the work of List grows with the number of profiles only: chains are not followed to
// their ends, and similar names are not searched for each profile.
func TestListOfLongChains(t *testing.T) { listLongChains(t, 4_000) }

func TestListOfLongChainsLong(t *testing.T) { listLongChains(t, 20_000) }

func listLongChains(t *testing.T, profiles int) {
	t.Helper()
	for what, source := range map[string]string{
		"one chain":       "p%d",
		"unknown sources": "q%d",
		"one loop":        "p%d", // the last profile leads to the first
	} {
		t.Run(what, func(t *testing.T) {
			var b strings.Builder
			for i := range profiles {
				next := i + 1
				if what == "one loop" {
					next %= profiles
				}
				fmt.Fprintf(&b, "[profile p%d]\nrole_arn=%sx\nsource_profile=%s\n", i, account, fmt.Sprintf(source, next))
			}
			list := load(t, b.String(), "", "").List()
			if len(list) != profiles {
				t.Fatalf("%d profiles", len(list))
			}
			guesses, cut := 0, 0
			for _, s := range list {
				if strings.Contains(s.Problem, "did you mean") {
					guesses++
				}
				if strings.Contains(s.Problem, "has a chain of more than") {
					cut++
				}
				if s.Problem == "" {
					t.Fatalf("%+v", s)
				}
			}
			if guesses > maxGuesses {
				t.Errorf("%d similar names were searched", guesses)
			}
			if what != "unknown sources" && cut < profiles-100 {
				t.Errorf("%d chains were followed to their ends", profiles-cut)
			}
		})
	}
}

// TestResolveLongChain checks the longest chain that is followed, and the error for a longer one.
func TestResolveLongChain(t *testing.T) {
	config := func(hops int) string {
		var b strings.Builder
		for i := range hops {
			fmt.Fprintf(&b, "[profile p%d]\nrole_arn=%sx\nsource_profile=p%d\n", i, account, i+1)
		}
		return strings.ReplaceAll(b.String(), fmt.Sprintf("source_profile=p%d\n", hops), "source_profile=security\n")
	}
	if _, err := load(t, config(maxHops), "", sourceSection).Resolve("p0"); err != nil {
		t.Error(err)
	}
	_, err := load(t, config(maxHops+1), "", sourceSection).Resolve("p0")
	want := fmt.Sprintf(`/config:1: profile "p0" has a chain of more than %d profiles; a chain may have at most %d`, maxHops, maxHops)
	if err == nil || !fault.Is(err, fault.Config) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
