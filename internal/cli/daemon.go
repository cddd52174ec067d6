package cli

import (
	"os"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
)

func (p *program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "run the daemon in the foreground; credproc and the commands start one by themselves",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "replace", Usage: "take over from the daemon that runs, if one does"},
			&cli.BoolFlag{Name: "background", Usage: "return when it listens, and leave it running", Hidden: true},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			program, err := p.daemonProgram()
			if err != nil {
				return err
			}
			command := []string{program}
			for _, flag := range []string{"replace", "background"} {
				if c.Bool(flag) {
					command = append(command, "--"+flag)
				}
			}
			return fault.New(fault.Failed, "start %s: %w", program, replace(program, command, os.Environ()))
		},
	}
}

// daemonProgram finds brokerd.
func (p *program) daemonProgram() (string, error) {
	return client.DaemonProgram(environ.Build(os.Environ(), p.paths, false))
}
