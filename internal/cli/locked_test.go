package cli

import (
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEveryCommandHasALockClass checks that each command says what it does while Broker is locked.
func TestEveryCommandHasALockClass(t *testing.T) {
	left := map[string]bool{}
	for _, name := range slices.Concat(lockClasses[:]...) {
		if left[name] {
			t.Errorf("broker %s has two classes", name)
		}
		left[name] = true
	}
	var walk func(c *cli.Command, name string)
	walk = func(c *cli.Command, name string) {
		for _, sub := range c.Subcommands {
			walk(sub, name+" "+sub.Name)
		}
		if len(c.Subcommands) > 0 && c.ArgsUsage == "" {
			return
		}
		if !slices.Contains(slices.Concat(lockClasses[:]...), name) {
			t.Errorf("broker %s is missing in lockClasses", name)
		}
		delete(left, name)
	}
	commands := new(program).app().Commands
	for _, c := range commands {
		walk(c, c.Name)
	}
	if len(commands) == 0 {
		t.Fatal("there are no commands: the test is void")
	}
	for name := range left {
		t.Errorf("there is no command broker %s", name)
	}
}
