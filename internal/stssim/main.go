package stssim

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Exit codes of the program.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// options are the flags of the program.
type options struct {
	org       string
	listener  Listener
	caOut     string
	readyFile string
	lifetime  time.Duration
	clock     time.Duration
	keyDelay  time.Duration
	keyFlaps  bool
	printCode string
	printSeed string
	printCSV  string
	counts    string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("stssim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.org, "org", "demo", "organization: a `file`, or \"demo\" for the one built in")
	flags.StringVar(&o.listener.Addr, "listen", "127.0.0.1:4599", "`address` to listen on; port 0 takes a free one")
	flags.BoolVar(&o.listener.TLS, "tls", false, "serve https with a CA made at start")
	flags.BoolVar(&o.listener.WrongHost, "wrong-host", false, "with --tls: a certificate for another host name")
	flags.StringVar(&o.caOut, "ca-out", "", "with --tls: write the CA certificate to this `file`")
	flags.StringVar(&o.readyFile, "ready-file", "", "write the URL to this `file` when listening")
	flags.DurationVar(&o.lifetime, "lifetime", 0, "every session lives this long, whatever is requested")
	flags.DurationVar(&o.clock, "clock-offset", 0, "how far the simulator's clock is ahead")
	flags.DurationVar(&o.keyDelay, "key-delay", 0, "how long new access keys are unknown")
	flags.BoolVar(&o.keyFlaps, "key-flaps", false, "with --key-delay: every second call works")
	flags.StringVar(&o.printCode, "print-code", "", "print the code that the MFA device with this `serial` shows, and exit")
	flags.StringVar(&o.printSeed, "print-seed", "", "print the seed of the MFA device with this `serial`, and exit")
	flags.StringVar(&o.printCSV, "print-csv", "", "print accessKeys.csv of this `user` as the AWS console offers it, and exit")
	flags.StringVar(&o.counts, "print-counts", "", "print how often each action succeeded at the simulator with this `URL`, and exit")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument: %s", flags.Arg(0))
	case !o.listener.TLS && (o.caOut != "" || o.listener.WrongHost):
		err = errors.New("--ca-out and --wrong-host need --tls")
	}
	if err != nil {
		fmt.Fprintln(stderr, "stssim:", err)
	}
	return o, err
}

// Main is the program stssim. It serves the organization until SIGTERM or SIGINT, or prints one of its values. It
// returns the exit code: 0 done, 1 failed, 2 wrong usage. Once it listens it prints one line, "listening on URL";
// --help lists the flags.
func Main(args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if err == flag.ErrHelp {
		return exitDone
	}
	if err != nil {
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, stdout); err != nil {
		fmt.Fprintln(stderr, "stssim:", err)
		return exitFailed
	}
	return exitDone
}

func run(ctx context.Context, o options, stdout io.Writer) error {
	if o.counts != "" {
		return printCounts(ctx, o.counts, stdout)
	}
	org, err := LoadOrganization(o.org)
	if err != nil {
		return err
	}
	switch {
	case o.printCode != "":
		return printCode(org, o.printCode, stdout)
	case o.printSeed != "":
		return printSeed(org, o.printSeed, stdout)
	case o.printCSV != "":
		return printCSV(org, o.printCSV, stdout)
	}
	return serve(ctx, org, o, stdout)
}

func serve(ctx context.Context, org *Organization, o options, stdout io.Writer) error {
	sim, err := New(org)
	if err != nil {
		return err
	}
	if o.lifetime > 0 {
		sim.SetLifetime(o.lifetime)
	}
	if o.keyDelay > 0 {
		sim.SetKeyDelay(o.keyDelay, o.keyFlaps)
	}
	sim.SetClockOffset(o.clock)

	server, err := sim.Listen(o.listener)
	if err != nil {
		return err
	}
	defer server.Close()
	if o.caOut != "" {
		if err := writeWhole(o.caOut, server.CAPEM); err != nil {
			return fmt.Errorf("write CA certificate: %w", err)
		}
	}
	fmt.Fprintln(stdout, "listening on", server.URL)
	// Last, so that a program that waits for the file finds everything else ready.
	if o.readyFile != "" {
		if err := writeWhole(o.readyFile, []byte(server.URL+"\n")); err != nil {
			return fmt.Errorf("write ready file: %w", err)
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.done:
		server.done <- err // for Close
		return fmt.Errorf("serve: %w", err)
	}
}

// writeWhole writes a file atomically.
func writeWhole(name string, text []byte) error {
	part, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = part.Write(text)
	if closeErr := part.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

func printCode(org *Organization, serial string, stdout io.Writer) error {
	device := org.Device(serial)
	if device == nil {
		return fmt.Errorf("no such mfa device: %s", serial)
	}
	code, err := device.Code(time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, code)
	return err
}

func printSeed(org *Organization, serial string, stdout io.Writer) error {
	device := org.Device(serial)
	if device == nil {
		return fmt.Errorf("no such mfa device: %s", serial)
	}
	_, err := fmt.Fprintln(stdout, device.Seed)
	return err
}

// printCSV prints the file that the AWS console offers after creating a key.
func printCSV(org *Organization, name string, stdout io.Writer) error {
	for _, user := range org.Users {
		if user.Name != name || len(user.Keys) == 0 {
			continue
		}
		w := csv.NewWriter(stdout)
		w.Write([]string{"Access key ID", "Secret access key"})
		for _, key := range user.Keys {
			w.Write([]string{key.ID, key.Secret})
		}
		w.Flush()
		return w.Error()
	}
	return fmt.Errorf("no such user, or a user without a key: %s", name)
}

// printCounts queries a running simulator, for machines without an HTTP client.
func printCounts(ctx context.Context, base string, stdout io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/_sim/counts", nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var counts struct{ Successes map[string]int }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&counts); err != nil {
		return fmt.Errorf("%s does not answer as a simulator: %w", base, err)
	}
	for _, action := range slices.Sorted(maps.Keys(counts.Successes)) {
		if _, err := fmt.Fprintln(stdout, action, counts.Successes[action]); err != nil {
			return err
		}
	}
	return nil
}
