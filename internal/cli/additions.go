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

// additionFlags are what a person wants of the environment of a command beyond the credentials, whatever the mode.
func additionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "region", Usage: "set AWS_REGION and AWS_DEFAULT_REGION to `REGION`, not to the profile's region"},
		&cli.BoolFlag{Name: "no-region", Usage: "leave AWS_REGION and AWS_DEFAULT_REGION unchanged"},
		&cli.StringFlag{Name: "env-file", Usage: "add the variables in `FILE`, one KEY=VALUE per line"},
	}
}

// additions are what the flags say.
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
			return a, usage("--region and --no-region do not go together")
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

// checkRegion refuses what is no region.
func checkRegion(region string) error {
	if region == "" {
		return fault.New(fault.Usage, "the region is empty")
	}
	return profiles.CheckRole(profiles.Role{Endpoint: profiles.Endpoint{Region: region}})
}

// maxEnvFile is far above what a program may be started with.
const maxEnvFile = 1 << 20

var variableName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readVariables reads a file as `docker run --env-file` does: a line is KEY=VALUE and the value is the rest of it as it stands,
// quotes included; an empty line, or one that begins with #, is nothing; a KEY alone is the variable
// of this environment, which the command has anyway. What exec itself sets is refused, not overridden.
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
		case removed[key]:
			return nil, fault.New(fault.Failed, "%s:%d: %s is for the broker to set, or to take out", name, n, key)
		case slices.Contains(regionNames, key):
			return nil, fault.New(fault.Failed, "%s:%d: %s is the profile's; --region says another", name, n, key)
		case given:
			all = append(withoutVariable(all, key), variable{key, value})
		}
	}
	if err := lines.Err(); err != nil || size > maxEnvFile {
		return nil, fault.New(fault.Failed, "%s cannot be read, or has more than 1 MiB", name)
	}
	return all, nil
}

// withoutVariable leaves out an earlier value: the last one counts.
func withoutVariable(all []variable, name string) []variable {
	return slices.DeleteFunc(all, func(v variable) bool { return v.name == name })
}

// to is the environment that a mode made, with what the flags say; environ is our own.
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
