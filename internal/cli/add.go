package cli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
	"broker/internal/vault"
)

func (p *program) addCommand() *cli.Command {
	return &cli.Command{
		Name:  "add",
		Usage: "store an IAM user's access key in the keyring",
		UsageText: "broker add security\n" +
			"broker add security --csv ~/Downloads/accessKeys.csv\n" +
			"broker add security --from-profile default",
		ArgsUsage: "SOURCE",
		Description: "Asks for the key on the terminal, unless an option says where the key is. The key is\n" +
			"checked with GetCallerIdentity before it is stored. It is never taken from an argument.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "csv", Usage: "read `FILE`, the accessKeys.csv that the AWS console offers"},
			&cli.BoolFlag{Name: "stdin", Usage: `read JSON {"AccessKeyId":"…","SecretAccessKey":"…"} from stdin`},
			&cli.StringFlag{Name: "from-profile", Usage: "use the plain-text key of the AWS profile `NAME`"},
			&cli.BoolFlag{Name: "from-env", Usage: "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
			&cli.StringFlag{Name: "mfa-serial", Usage: "the `ARN` of the user's MFA device (default: the one that AWS lists)"},
			&cli.BoolFlag{Name: "no-verify", Usage: "store the key without checking it with AWS"},
		},
		Action: func(c *cli.Context) error {
			name, err := one(c, "source")
			if err != nil {
				return err
			}
			return p.add(c, name)
		},
	}
}

// longTermKey is a long-lived key before it is stored in the keyring.
type longTermKey struct {
	id     string
	secret secret.String
	from   string // the place that still holds it in plain text, or empty
	device string // MFA serial that the files have for the key, or empty
	typed  bool   // a person typed it on the terminal
}

func (p *program) add(c *cli.Context, name string) error {
	ctx := c.Context
	set, settings, err := p.settings()
	if err != nil {
		return err
	}
	// The section is written after the key is stored. Check first that it can be written.
	if err := profiles.CheckSource(name, c.String("mfa-serial")); err != nil {
		return err
	}
	if err := set.CheckNewUser(name); err != nil {
		return err
	}
	known, exists := set.Source(name)
	ring, err := p.openKeyring(ctx, set)
	if err != nil {
		return err
	}
	ring.makes = true
	key, again, err := p.readKey(c, name, known, ring)
	if f := fault.Of(err); f != nil {
		if f.Hint == "" && (f.Kind == fault.Usage || f.Kind == fault.Failed) {
			f = f.WithHint("%s", again)
		}
		return f
	}
	i := &importing{p: p, set: set, settings: settings, ring: ring}
	device := c.String("mfa-serial")
	e := i.keyEndpoint(known, cmp.Or(c.String("from-profile"), name), cmp.Or(device, key.device))
	if err := sameKey(known, key.id); err != nil {
		return err
	}
	if err := p.offerShell(ctx, settings, ring.backend, false); err != nil {
		return err
	}
	var who vault.Identity
	err = ring.with(ctx, func() error {
		who, err = ring.Put(
			ctx,
			vault.Key{Name: name, AccessKeyID: key.id, Secret: key.secret, Replace: exists, KeepSeed: true},
			e,
			!c.Bool("no-verify"),
		)
		return p.explainRoute(err)
	})
	if errors.Is(err, vault.ErrExists) {
		return fault.New(fault.Failed, "the keyring holds a key for %s already; a key is never overwritten", name).WithHint("broker remove %s", name)
	}
	if f := fault.Of(err); f != nil && e.URL != "" && (f.Kind == fault.Failed || f.Kind == fault.BadAnswer) {
		// An STS that is not AWS's may not support GetCallerIdentity.
		return f.WithHint("broker add %s --no-verify", name)
	}
	if f := fault.Of(err); fault.Is(err, fault.Denied) { // the key has to be entered again; import has a hint of its own
		return f.WithHint("broker add %s", name)
	}
	if err != nil {
		return err
	}
	if err := ring.keep(); err != nil {
		return err
	}
	write := func(section []profiles.KeyValue, device string) error {
		if device != "" {
			section = append(section, profiles.KeyValue{Key: "mfa_serial", Value: device})
			// A key whose section was lost may still have its seed in the keyring.
			if info, err := ring.Describe(ctx, name); !exists && err == nil && info.HasSeed {
				section = append(section, profiles.KeyValue{Key: "mfa_seed", Value: "keyring"})
			}
		}
		return p.editRegistry(func(src []byte) ([]byte, error) {
			return profiles.SetSection(src, profiles.SectionSource, name, section)
		})
	}
	// Write the section before the next prompt, so that Ctrl-C leaves both the key and its section.
	section := append([]profiles.KeyValue{{Key: "access_key_id", Value: key.id}}, keepsRegion(known, e)...)
	if err := write(section, device); err != nil {
		return err
	}
	p.say("stored the key %s as %s in %s", secret.Tail(key.id), name, ring.backend)
	if who.ARN != "" {
		p.say("it belongs to %s", fault.Line(who.ARN))
	}
	if key.from != "" {
		p.say("%s still has it in plain text; remove it there", key.from)
	}
	if device != "" || known.MFASerial != "" || known.NoSession {
		return nil
	}
	named := cmp.Or(key.device, set.DeviceOf(cmp.Or(c.String("from-profile"), name)))
	device, err = i.device(ctx, name, named, e, !c.Bool("no-verify"), key.typed)
	if err == nil && device != "" {
		err = write(nil, device)
	}
	if err == nil {
		p.sayDevice(name, device)
	}
	return err
}

// sameKey returns an error if the source exists with a key other than id.
func sameKey(known profiles.Source, id string) error {
	if known.Name == "" || known.AccessKeyID == id {
		return nil
	}
	return fault.New(fault.Failed, "source %q holds the key %s already; a key is never overwritten", known.Name,
		secret.Tail(known.AccessKeyID)).
		WithHint("broker remove %s", known.Name)
}

// readKey reads the key from the one place that the flags name. The hint is the command that tries it again.
func (p *program) readKey(
	c *cli.Context, name string, known profiles.Source, ring *keyring,
) (key longTermKey, again fault.Hint, err error) {
	again = fault.Hintf("broker add %s", name)
	var given []string
	for _, flag := range []string{"csv", "stdin", "from-profile", "from-env"} {
		if c.IsSet(flag) {
			given = append(given, "--"+flag)
		}
	}
	if len(given) > 1 {
		return key, "broker add --help",
			fault.New(fault.Usage, "%s cannot be given together", strings.Join(given, " and "))
	}
	switch {
	case c.IsSet("csv"):
		again = fault.Hintf("broker add %s --csv FILE", name)
		key, err = keyFromCSV(c.String("csv"))
	case c.Bool("stdin") && !isTerminal(p.stdin): // a terminal would show the key
		again = fault.Hintf("broker add %s --stdin", name)
		key, err = keyFromJSON(p.stdin)
	case c.IsSet("from-profile"):
		var plain profiles.Plain
		plain, err = profiles.PlainKey(p.files(), c.String("from-profile"))
		key = longTermKey{id: plain.AccessKeyID, secret: plain.Secret, from: plain.Origin.String(),
			device: plain.MFASerial}
	case c.Bool("from-env"):
		if os.Getenv("AWS_SESSION_TOKEN") != "" {
			return key, again, fault.New(fault.Failed, "the environment holds a temporary session "+
				"(AWS_SESSION_TOKEN), not a long-lived key")
		}
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
			if os.Getenv(name) == "" {
				return key, again, fault.New(fault.Usage, "--from-env needs %s, which is not set", name)
			}
		}
		key = longTermKey{id: os.Getenv("AWS_ACCESS_KEY_ID"), secret: secret.New(os.Getenv("AWS_SECRET_ACCESS_KEY")), from: "the environment"}
	default:
		key, err = p.askKey(c.Context, name, known, ring)
	}
	if err != nil {
		return longTermKey{}, again, err
	}
	return key, again, profiles.CheckKey(key.id, key.secret, known.Endpoint.Compatible)
}

func (p *program) askKey(ctx context.Context, name string, known profiles.Source, ring *keyring) (longTermKey, error) {
	t, err := p.openTerminal()
	if err != nil {
		return longTermKey{}, fault.Of(err).WithHint("broker add %s --stdin", name)
	}
	defer func() { _ = t.Close() }()
	_, _ = fmt.Fprintf(t, "The key will be stored in %s.\n", fault.Line(ring.place()))
	key := longTermKey{typed: true}
	for {
		if key.id, err = t.line(ctx, "Access key ID: "); err != nil {
			return longTermKey{}, err
		}
		wrong := profiles.CheckKeyID(key.id, known.Endpoint.Compatible)
		if wrong != nil && key.id == "" {
			return longTermKey{}, wrong
		}
		if wrong == nil {
			if err := sameKey(known, key.id); err != nil {
				return longTermKey{}, err
			}
			break
		}
		_, _ = fmt.Fprintln(t, fault.Line(wrong.Error()))
	}
	key.secret, err = t.hidden(ctx, "Secret access key: ")
	return key, err
}

// maxKeyFile is the largest file that is read for a key, in bytes.
const maxKeyFile = 64 << 10

// keyFromCSV reads the file that the AWS console offers: a header with "Access key ID" and "Secret access key", and
// one line. Excel and the console put a BOM at the start of the file.
func keyFromCSV(path string) (longTermKey, error) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return longTermKey{}, fault.New(fault.Failed, "read the key: %w", err)
	}
	defer func() { _ = f.Close() }()
	rows := csv.NewReader(io.LimitReader(f, maxKeyFile))
	rows.TrimLeadingSpace = true
	rows.FieldsPerRecord = -1
	table, err := rows.ReadAll()
	if err != nil || len(table) < 2 {
		return longTermKey{}, fault.New(fault.Failed, "%s is not the accessKeys.csv of the AWS console", path)
	}
	id, hidden := -1, -1 // columns
	for i, title := range table[0] {
		switch strings.ToLower(strings.TrimSpace(strings.TrimPrefix(title, "\ufeff"))) {
		case "access key id":
			id = i
		case "secret access key":
			hidden = i
		}
	}
	switch {
	case id < 0 || hidden < 0:
		return longTermKey{}, fault.New(fault.Failed, "%s has no columns `Access key ID` and `Secret access key`", path)
	case len(table) > 2:
		return longTermKey{}, fault.New(fault.Failed, "%s holds %d keys; leave one", path, len(table)-1)
	}
	key := longTermKey{from: path}
	if row := table[1]; max(id, hidden) < len(row) {
		key.id, key.secret = strings.TrimSpace(row[id]), secret.New(strings.TrimSpace(row[hidden]))
	}
	if key.id == "" || key.secret.IsZero() {
		return longTermKey{}, fault.New(fault.Failed, "%s has an empty `Access key ID` or `Secret access key`", path)
	}
	return key, nil
}

// keyFromJSON reads what `aws iam create-access-key` prints, or its inner object.
func keyFromJSON(r io.Reader) (longTermKey, error) {
	type pair struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey secret.String
	}
	var j struct {
		pair
		AccessKey pair
	}
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return longTermKey{}, fault.New(fault.Failed, "read the key from stdin: %w", err)
	}
	// The decoder's error would quote the input, which holds the key.
	if json.Unmarshal(data, &j) != nil {
		return longTermKey{}, fault.New(fault.Failed, `stdin is not JSON of the form {"AccessKeyId":"…","SecretAccessKey":"…"}`)
	}
	if j.AccessKeyID == "" {
		j.pair = j.AccessKey
	}
	if j.AccessKeyID == "" || j.SecretAccessKey.IsZero() {
		return longTermKey{}, fault.New(fault.Failed, `stdin holds no "AccessKeyId" with "SecretAccessKey"`)
	}
	return longTermKey{id: j.AccessKeyID, secret: j.SecretAccessKey}, nil
}

// readSeed reads a TOTP seed from stdin. If stdin is a terminal, which would show the seed, it uses a hidden
// prompt.
func (p *program) readSeed(c *cli.Context, source string) (secret.String, error) {
	if isTerminal(p.stdin) || !c.Bool("seed-stdin") {
		t, err := p.openTerminal()
		if err != nil {
			return secret.String{}, fault.Of(err).WithHint("broker mfa set %s --seed-stdin < FILE", source)
		}
		defer func() { _ = t.Close() }()
		return t.hidden(c.Context, "Seed or otpauth URI: ")
	}
	data, err := io.ReadAll(io.LimitReader(p.stdin, maxAnswer+1))
	if err != nil {
		return secret.String{}, fault.New(fault.Failed, "read the seed from stdin: %w", err)
	}
	if len(data) > maxAnswer {
		return secret.String{}, fault.New(fault.Usage, "the seed on stdin is longer than %d bytes", maxAnswer)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return secret.String{}, fault.New(fault.Usage, "stdin holds no seed").
			WithHint("broker mfa set %s --seed-stdin < FILE", source)
	}
	return secret.New(text), nil
}
