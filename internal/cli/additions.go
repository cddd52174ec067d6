package cli

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
)

// additionFlags are the flags that add variables to the environment of a command, in every mode.
func additionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "region", Usage: "set AWS_REGION and AWS_DEFAULT_REGION to `REGION`, not to the profile's region"},
		&cli.BoolFlag{Name: "no-region", Usage: "leave AWS_REGION and AWS_DEFAULT_REGION unchanged"},
		&cli.StringFlag{Name: "env-file", Usage: "add the variables in `FILE`, one KEY=VALUE per line"},
	}
}

// additions are the values of additionFlags.
type additions struct {
	region   string
	noRegion bool
	more     []variable
}

func readAdditions(c *cli.Context) (additions, error) {
	a := additions{region: c.String("region"), noRegion: c.Bool("no-region")}
	usage := func(format string, args ...any) error {
		return fault.New(fault.Usage, format, args...).WithHint("%s --help", typed(c))
	}
	if c.IsSet("region") {
		if a.noRegion {
			return a, usage("use either --region or --no-region")
		}
		if err := checkRegion(a.region); err != nil {
			return a, err
		}
	}
	if !c.IsSet("env-file") {
		return a, nil
	}
	file, err := os.Open(c.String("env-file"))
	if err != nil {
		return a, fault.New(fault.Failed, "read the variables: %w", err)
	}
	defer func() { _ = file.Close() }()
	a.more, err = readVariables(c.String("env-file"), file)
	return a, err
}

// checkRegion returns an error if region is not a region name.
func checkRegion(region string) error {
	if region == "" {
		return fault.New(fault.Usage, "the region is empty")
	}
	return profiles.CheckRole(profiles.Role{Endpoint: profiles.Endpoint{Region: region}})
}

// maxEnvFile is the largest environment file that is read, in bytes. No program can be started with that much.
const maxEnvFile = 1 << 20

var variableName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readVariables reads a file as `docker run --env-file` does. A line is KEY=VALUE, and the value is the rest of the
// line as it is, including quotes. Empty lines and lines that begin with # are skipped. A line with only KEY means
// the variable of this environment, which the command gets anyway. Variables that exec itself sets are refused.
// https://docs.docker.com/reference/cli/docker/container/run/#env
func readVariables(name string, r io.Reader) ([]variable, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxEnvFile+1))
	lines.Buffer(nil, maxEnvFile)
	var all []variable
	size := 0
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(strings.TrimSuffix(lines.Text(), "\r"), " \t")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		size += len(lines.Bytes()) + 1
		key, value, given := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
			continue
		case !variableName.MatchString(key) || strings.Contains(value, "\x00"):
			return nil, fault.New(fault.Failed, "%s:%d: this line is not KEY=VALUE", name, n)
		case slices.Contains(removed, key), key == "BROKER_DOOR":
			return nil, fault.New(fault.Failed, "%s:%d: %s is set or removed by Broker itself", name, n, key)
		case slices.Contains(regionNames, key):
			return nil, fault.New(fault.Failed, "%s:%d: %s comes from the profile; use --region to set another", name, n, key)
		case given:
			all = append(withoutVariable(all, key), variable{key, value})
		}
	}
	if err := lines.Err(); err != nil || size > maxEnvFile {
		return nil, fault.New(fault.Failed, "%s cannot be read or is larger than 1 MiB", name)
	}
	return all, nil
}

// withoutVariable removes earlier values of a variable, because the last value wins.
func withoutVariable(all []variable, name string) []variable {
	return slices.DeleteFunc(all, func(v variable) bool { return v.name == name })
}

// to returns env, the environment that a mode made, with the additions. environ is the environment of this process.
func (a additions) to(env, environ []string) []string {
	var regions []variable
	if a.region != "" {
		for _, name := range regionNames {
			regions = append(regions, variable{name, a.region})
		}
	}
	if a.noRegion {
		env = without(env, func(name string) bool { return slices.Contains(regionNames, name) })
		env = append(env, without(environ, func(name string) bool { return !slices.Contains(regionNames, name) })...)
	}
	return withVariables(withVariables(env, regions), a.more)
}
