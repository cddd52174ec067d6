package cli

import (
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEveryCommandHasALockClass: a new command has to say what it does while Broker is locked.
func TestEveryCommandHasALockClass(t *testing.T) {
	left := map[string]bool{}
	for name := range lockClasses {
		left[name] = true
	}
	var walk func(c *cli.Command, name string)
	walk = func(c *cli.Command, name string) {
		for _, sub := range c.Subcommands {
			walk(sub, name+" "+sub.Name)
		}
		if len(c.Subcommands) > 0 {
			return
		}
		if _, ok := lockClasses[name]; !ok {
			t.Errorf("broker %s: nothing says what it does while Broker is locked", name)
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
