package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/audit"
	"broker/internal/child"
	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/lockfile"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/system"
	"broker/internal/vault"
	"broker/internal/version"
	"broker/internal/wire"
)

// failed returns the finding for an error, with its hint as the command.
func failed(of level, err error) finding {
	f := fault.Of(err)
	return finding{Level: of, Text: f.Error(), Command: f.Hint, safe: isChmod(f.Hint)}
}

// closingMode matches the modes in Broker's hints, which give nothing to others but the execution of a program.
var closingMode = lazyregexp.New(`^(0?[67]00|0711|go-w|go=|u\+w|u\+rwx?)$`)

// isChmod reports whether a command changes the mode of one file that is yours, and does nothing else.
func isChmod(command fault.Hint) bool {
	w, ok := command.Words()
	return ok && len(w) == 3 && w[0] == "chmod" && closingMode.MatchString(w[1]) && filepath.IsAbs(w[2])
}

// findingsOf returns troubles as findings.
func findingsOf(of level, safe bool, list []trouble) (found []finding) {
	for _, t := range list {
		found = append(found, finding{Level: of, Text: t.text, Command: t.command, safe: safe || isChmod(t.command)})
	}
	return found
}

// editAt returns the command that opens a file at a line.
func editAt(at profiles.Origin) fault.Hint {
	if at.Line == 0 {
		return fault.Hintf("vi %s", at.File)
	}
	return fault.Hintf("vi +%d %s", at.Line, at.File)
}

// checkFiles reports what is wrong in the text of the registry and the AWS files.
func (x *examination) checkFiles(context.Context) (found []finding) {
	if x.err != nil {
		found = append(found, failed(bad, x.err))
	}
	if x.set == nil {
		return found
	}
	for _, w := range x.set.Warnings() {
		if w.Origin.Line == 0 && x.isExposed(w.Origin.File) {
			continue // checkPermissions reports it
		}
		found = append(found, finding{Level: risky, Text: w.String(), Command: editAt(w.Origin)})
	}
	for _, w := range x.set.Advice() { // its text has the command
		found = append(found, finding{Level: risky, Text: w.String()})
	}
	if path := x.settings.Route(emptyEnv).CABundle; path != "" {
		for _, f := range findingsOf(bad, false, bundleTrouble(path)) {
			f.Command = cmp.Or(f.Command, fault.Hintf("broker config set ca_bundle FILE"))
			found = append(found, f)
		}
	}
	if _, err := x.readDocument(profiles.RecordsDocument); err != nil && !errors.Is(err, record.ErrRefused) {
		found = append(found, failed(bad, err))
	}
	return found
}

func (x *examination) isExposed(path string) bool {
	var e *system.UntrustedError
	return errors.As(system.Trusted(path), &e)
}

// checkPermissions reports files and directories that others can change, and secrets that others can read.
func (x *examination) checkPermissions(context.Context) (found []finding) {
	for _, dir := range []struct {
		path string
		deny fs.FileMode
	}{{x.paths.State, record.Guarded}, {filepath.Dir(x.paths.Socket), record.Private}, {x.paths.Keyring, record.Private}} {
		d, err := record.Open(dir.path, dir.deny)
		switch {
		case err == nil:
			_ = d.Close()
		case !errors.Is(err, fs.ErrNotExist):
			found = append(found, failed(bad, err))
		}
	}
	if _, err := record.Read(x.paths.Linked(), maxLinked, record.Guarded); errors.Is(err, record.ErrRefused) {
		found = append(found, failed(bad, err))
	}
	programs := x.ownPrograms()
	for _, path := range append([]string{x.paths.Registry, x.paths.Config, x.paths.Credentials}, programs...) {
		var e *system.UntrustedError
		if err := system.Trusted(path); errors.As(err, &e) {
			command := cmp.Or(profiles.MendTrust(err), fault.Hintf("ls -ld %s", e.Path))
			found = append(found, finding{Level: bad, Text: e.Error(), Command: command, safe: isChmod(command)})
		}
	}
	for _, path := range programs {
		found = append(found, readableProgram(path)...)
	}
	return append(found, x.readableSecrets()...)
}

// ownPrograms returns the paths of those of our programs that are found.
func (x *examination) ownPrograms() (paths []string) {
	for _, find := range []func() (string, error){os.Executable, x.daemonProgram, credprocProgram} {
		if path, err := find(); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// readableProgram reports a program of root that its users can read. A process of a program that its user cannot read
// cannot be read from its first moment on. Only a program of root stays so, because its owner can change the mode of
// any other.
func readableProgram(path string) []finding {
	if owner, known := system.OwnerOf(path); !known || owner != 0 || filepath.Base(path) == "credproc" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode()&0o044 == 0 {
		return nil
	}
	command := fault.Hintf("chmod 0711 %s", path)
	if os.Geteuid() != 0 {
		command = fault.Hintf("sudo chmod 0711 %s", path)
	}
	return []finding{{Level: risky, Command: command, Text: path + " can be read, so another program of yours that " +
		"watches for its start could read its memory for a moment"}}
}

// readableSecrets reports files with secrets that others can read.
func (x *examination) readableSecrets() (found []finding) {
	secrets := []string{os.Getenv("BROKER_KEYRING_PASSPHRASE_FILE")}
	for _, path := range []string{x.paths.Credentials, x.paths.Config} {
		src, err := profiles.ReadFile(path)
		if err == nil && profiles.HoldsSecret(src) {
			secrets = append(secrets, path)
		}
		clear(src)
	}
	for _, path := range secrets {
		access, err := system.AccessOfPath(path)
		if path == "" || err != nil || !access.Ours || access.Perm&0o077 == 0 {
			continue
		}
		command := record.Mend(path, fault.Hintf("chmod go= %s", path)) // a repository may have chosen the path
		found = append(found, finding{Level: bad, Command: command, safe: isChmod(command),
			Text: fmt.Sprintf("%s holds a secret, and others can read it (mode %04o)", path, access.Perm)})
	}
	return found
}

// checkPlainKeys reports the long-lived keys in the AWS files.
func (x *examination) checkPlainKeys(context.Context) (found []finding) {
	if x.plainErr != nil && x.err == nil { // otherwise checkFiles reports it
		return []finding{failed(bad, x.plainErr)}
	}
	for _, key := range x.plain {
		text := fmt.Sprintf("key %s of profile %s is in plain text: %s", secret.Tail(key.AccessKeyID), key.Profile, key.Origin)
		if key.Profile == "default" {
			text += "; each tool that names no profile uses it"
		}
		found = append(found, finding{Level: bad, Text: text, Command: fault.Hintf("broker import --yes")})
	}
	return found
}

// keyVariables are the variables that give a tool its credentials.
var keyVariables = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

// checkShell reports variables of this shell that override a profile, and variables that Broker reads only from its
// settings. What `broker exec` set is as it should be.
func (x *examination) checkShell(context.Context) (found []finding) {
	if os.Getenv("BROKER_PROFILE") == "" {
		id := os.Getenv("AWS_ACCESS_KEY_ID")
		command := fault.Hintf("unset %s", keyVariables)
		switch {
		case strings.HasPrefix(id, "AKIA"), id != "" && os.Getenv("AWS_SESSION_TOKEN") == "":
			found = append(found, finding{Level: bad, Command: command,
				Text: "this shell has the long-lived key " + secret.Tail(id) + " in AWS_ACCESS_KEY_ID; it overrides AWS_PROFILE, and " +
					"each program that starts here gets it"})
		case id != "":
			found = append(found, finding{Level: risky, Command: command,
				Text: "this shell has a session in AWS_ACCESS_KEY_ID, which overrides AWS_PROFILE"})
		}
		for _, v := range profiles.Environment("", "", os.Environ()) {
			switch v.Name {
			case "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE":
			case "AWS_PROFILE", "AWS_DEFAULT_PROFILE":
				if x.set == nil {
					continue
				}
				name := os.Getenv(v.Name)
				if !slices.ContainsFunc(x.set.List(), func(s profiles.Summary) bool { return s.Name == name }) {
					found = append(found, finding{Level: risky, Command: fault.Hintf("unset %s", v.Name),
						Text: fmt.Sprintf("%s of this shell names the profile %q, which does not exist", v.Name, name)})
				}
			default:
				found = append(found, finding{Level: risky, Command: fault.Hintf("unset %s", v.Name),
					Text: v.Name + " of this shell: " + v.Text})
			}
		}
	}
	for _, l := range x.shellSettings(x.settings, x.settings.KeyringBackend) {
		if _, err := checkSetting(l.setting, l.value); err != nil && l.setting == "ca_bundle" {
			found = append(found, finding{Level: risky, Command: fault.Hintf("unset %s", l.variable),
				Text: "your shell has " + l.shown() + ", which cannot be used: " + fault.Line(err.Error())})
			continue
		}
		found = append(found, finding{Level: risky, Command: l.command(),
			Text: "your shell has " + l.shown() + ", which Broker reads only from its settings"})
	}
	return found
}

// checkSources reports sources without an MFA device.
func (x *examination) checkSources(context.Context) (found []finding) {
	if x.set == nil {
		return nil
	}
	for _, source := range x.set.Sources() {
		found = append(found, findingsOf(risky, false, deviceTrouble(x.set, source))...)
	}
	return found
}

// checkRotation reports keys that are older than max_age, and rotations that have stopped before their end.
func (x *examination) checkRotation(context.Context) (found []finding) {
	list := x.status.Rotations
	if x.statusErr != nil {
		recorded, err := x.recordedRotations()
		if err != nil {
			found = append(found, failed(bad, err))
		}
		list = recorded
	}
	pending := map[string]bool{}
	for _, r := range list {
		pending[r.Source] = true
		switch {
		case r.Running:
			found = append(found, finding{Level: fine, Text: fmt.Sprintf("the key of source %q is being replaced now", r.Source)})
		case r.Error != "" || r.DeleteAt == nil:
			text := fmt.Sprintf("the rotation of the key of source %q has stopped", r.Source)
			if r.Error != "" {
				text += ": " + r.Error
			}
			found = append(found, finding{Level: bad, Text: text,
				Command: cmp.Or(r.Hint, fault.Hintf("broker rotate %s --resume", r.Source))})
		default:
			found = append(found, finding{Level: fine, Text: fmt.Sprintf("source %q: %s", r.Source, r.State)})
		}
	}
	if x.set == nil {
		return found
	}
	for _, old := range x.set.OldKeys(time.Now()) {
		if !pending[old.Source] {
			found = append(found, tooOld(old))
		}
	}
	return found
}

func tooOld(key profiles.OldKey) finding {
	return finding{Level: risky, Command: fault.Hintf("broker rotate %s", key.Source),
		Text: fmt.Sprintf("the key of source %q is %d days old (max_age = %dd)", key.Source, key.Days, key.Most)}
}

// checkKeysInAWS asks IAM for the keys of each source, and nobody for a code. It reports a second key, and a key that
// is older than max_age, although the registry does not say when it was created.
func (x *examination) checkKeysInAWS(ctx context.Context) (found []finding) {
	if !x.deep || x.err != nil {
		return nil
	}
	daemon := x.client
	daemon.NoStart = true
	for _, source := range x.set.Sources() {
		if source.CheckIAM() != nil {
			continue
		}
		resp, err := daemon.Do(ctx, wire.Request{Verb: wire.Rotate, Profile: source.Name,
			Rotation: &wire.Rotation{Step: wire.RotateLook}})
		old, is := x.settings.OldKey(source.Name, resp.KeyCreated, time.Now())
		switch {
		case fault.Is(err, fault.Failed):
			found = append(found, finding{Level: risky, Text: err.Error(), Command: fault.Of(err).Hint})
		case err != nil:
			found = append(found, finding{Level: fine, Command: fault.Of(err).Hint,
				Text: fmt.Sprintf("the keys in AWS of source %q are not checked: %v", source.Name, err)})
		case is && source.KeyCreated.IsZero(): // checkRotation reports the others
			found = append(found, tooOld(old))
		}
	}
	return found
}

// recordedRotations reads the rotations that have not ended, for when no daemon answers.
func (x *examination) recordedRotations() (list []wire.Rotating, err error) {
	pending, err := rotate.New(x.paths.State, x.files().Registry, nil).Pending()
	for _, p := range pending {
		r := wire.Rotating{Source: p.Source, State: p.State}
		if !p.DeleteAt.IsZero() {
			r.DeleteAt = &p.DeleteAt
		}
		list = append(list, r)
	}
	return list, err
}

// checkProfiles reports what is in the registry and cannot be used.
func (x *examination) checkProfiles(context.Context) (found []finding) {
	if x.set == nil {
		return nil
	}
	for _, s := range x.set.List() {
		if s.Problem == "" || s.Kind == profiles.KindOther && s.Helper == "" {
			continue
		}
		of := risky
		if s.Helper != "" || s.Origin.File == x.paths.Registry {
			of = bad
		}
		_, err := x.set.Resolve(s.Name)
		f := failed(of, err)
		if f.Command == "" {
			at := s.Origin
			if rest, ok := strings.CutPrefix(f.Text, at.File+":"); ok { // the line of the value, not of the section
				number, _, _ := strings.Cut(rest, ":")
				if line, err := strconv.Atoi(number); err == nil {
					at.Line = line
				}
			}
			f.Command = editAt(at)
		}
		f.Text, f.safe = under(s.Name, f.Text), false
		found = append(found, f)
	}
	for _, a := range x.set.Aliases() {
		if a.Problem != "" {
			found = append(found, finding{Level: risky, Text: a.Problem,
				Command: fault.Hintf("broker profiles alias %s --remove", a.Name)})
		}
	}
	return found
}

// checkLinked reports linked profiles for which AWS tools do not ask this Broker.
func (x *examination) checkLinked(context.Context) (found []finding) {
	if x.set == nil {
		return nil
	}
	list := x.set.List()
	// link refuses a profile with a key; import is first.
	keyed := func(s profiles.Summary) bool { return s.PlainKey != (profiles.Origin{}) }
	found = findingsOf(bad, true, helperTrouble(slices.DeleteFunc(slices.Clone(list), keyed)))
	for _, s := range list {
		if keyed(s) {
			for _, t := range helperTrouble([]profiles.Summary{s}) {
				found = append(found, x.notAsked(s.Name, t.text))
			}
		}
		if s.Problem != "" {
			continue
		}
		if !s.Linked {
			if s.Helper != "" {
				found = append(found, x.otherHelper(s)...)
			}
			continue
		}
		if chain, err := x.set.Resolve(s.Asks); err == nil && chain.Profile != s.Name {
			found = append(found, x.notAsked(s.Name, "AWS tools get the credentials of "+chain.Profile))
		}
		others := map[string][]string{} // text to tools
		for _, v := range x.set.Tools(s.Name, os.Getenv) {
			// The AWS CLI stands for the tools that can ask credproc. Others need a variable, or another delivery. If it
			// refuses the file, checkFiles has the line.
			fails := v.From == profiles.FromNobody && v.Tool == "AWS CLI" && !strings.HasPrefix(v.Text, "refuses")
			if v.From == profiles.FromElse || fails {
				others[v.Text] = append(others[v.Text], v.Tool)
			}
		}
		for _, text := range slices.Sorted(maps.Keys(others)) {
			found = append(found, x.notAsked(s.Name, strings.Join(others[text], ", ")+": "+text))
		}
	}
	return found
}

// otherHelper reports a helper that cannot be run, for a profile that is only in the AWS files and asks for another.
// No command of Broker changes its line.
func (x *examination) otherHelper(s profiles.Summary) (found []finding) {
	s.Linked = true
	for _, t := range helperTrouble([]profiles.Summary{s}) {
		line, _ := x.set.WayOf(s.Name)
		found = append(found, finding{Level: bad, Text: t.text, Command: editAt(line)})
	}
	return found
}

// notAsked returns the finding for a linked profile for which tools do not ask this Broker, with text as the reason.
func (x *examination) notAsked(name, text string) finding {
	link := fault.Hintf("broker profiles link %s", name)
	text = strings.TrimSuffix(text, "; "+string(link))
	f := finding{Level: bad, Text: name + ": " + text}
	if keys, ok := x.set.KeysOf(name); ok {
		f.Command = editAt(keys)
		if x.hasPlainKey(name) {
			f.Command = fault.Hintf("broker import %s --yes", name)
		}
	} else if x.canLink(name) {
		f.Command, f.safe = link, true
	} else {
		line, _ := x.set.WayOf(name)
		f.Command = editAt(line)
	}
	return f
}

// hasPlainKey reports whether import can take the key of a profile out of the AWS files.
func (x *examination) hasPlainKey(name string) bool {
	return slices.ContainsFunc(x.plain, func(key profiles.Plain) bool { return key.Profile == name })
}

// canLink reports whether link changes a profile. It refuses one that the AWS files and the registry define
// differently.
func (x *examination) canLink(name string) bool {
	credproc, err := credprocProgram()
	if err != nil {
		return false
	}
	_, _, out, err := x.planned(func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		return profiles.Link(x.files(), docs, []string{name}, credproc)
	})
	changes := func(o profiles.Outcome) bool { return o.State == profiles.Changed && o.Err == nil }
	return err == nil && slices.ContainsFunc(out, changes)
}

// deniedWithin is how long ago AWS may have denied a role that checkDenied reports.
const deniedWithin = 24 * time.Hour

// checkDenied reports profiles whose last request AWS denied.
func (x *examination) checkDenied(context.Context) (found []finding) {
	r, err := x.openLog()
	if err != nil { // checkAudit reports it
		return []finding{{Level: risky, Text: "not checked, because the audit log cannot be read: AWS denied no role within the last day"}}
	}
	defer r.Close()
	seen := map[string]bool{}
	for line := range r.Backward() {
		var e audit.Event
		if json.Unmarshal(line.Text, &e) != nil || e.Profile == "" || seen[e.Profile] {
			continue
		}
		if time.Since(e.Time) > deniedWithin {
			break
		}
		denied := e.Event == "refused" && e.Kind == fault.Denied
		if !denied && e.Event != "given" && e.Event != "used" {
			continue
		}
		seen[e.Profile] = true
		command := fault.Hintf("broker exec %s -- true", e.Profile)
		if x.set != nil {
			chain, err := x.set.Resolve(e.Profile)
			if err != nil { // it is gone
				continue
			}
			for _, t := range deviceTrouble(x.set, chain.Source) { // the probable cause
				command = t.command
			}
		}
		if denied {
			found = append(found, finding{Level: risky, Command: command,
				Text: e.Profile + ": " + localTime(e.Time) + ": " + e.Message})
		}
	}
	return found
}

// checkKeyring reports why the keyring in the settings cannot be used.
func (x *examination) checkKeyring(ctx context.Context) (found []finding) {
	if x.err != nil {
		return nil
	}
	if x.settings.KeyringBackend == "" {
		return []finding{{Level: fine, Text: "no keyring is chosen yet; the first key chooses one", Command: "broker setup"}}
	}
	if x.statusErr != nil && !errors.Is(x.statusErr, client.ErrNone) {
		return []finding{{Level: fine, Text: "the keyring was not tried, because the daemon does not answer"}}
	}
	for _, row := range x.keyrings(ctx, x.settings.KeyringBackend) {
		if !row.InUse {
			continue
		}
		switch row.State {
		case "locked":
			found = append(found, finding{Level: risky, Text: row.Backend + " is locked: " + row.Reason, Command: row.command})
		case "unusable":
			found = append(found, finding{Level: bad, Text: row.Backend + " cannot be used: " + row.Reason, Command: row.command})
		}
		if row.Note != "" {
			found = append(found, finding{Level: risky, Text: row.Backend + " is " + row.Note,
				Command: fault.Hintf("broker keyring migrate --to %s", vault.File)})
		}
	}
	return found
}

// checkDaemon reports what is wrong with the daemon, or what it warns of.
func (x *examination) checkDaemon(context.Context) (found []finding) {
	switch {
	case errors.Is(x.statusErr, client.ErrNone):
		if _, err := environ.CheckOwners(); err != nil {
			return []finding{failed(bad, err)}
		}
		if err := lockfile.Trouble(lockfile.Find(x.paths.State).File); err != nil {
			return []finding{failed(bad, err)}
		}
		if info, err := os.Lstat(x.paths.Socket); err == nil && info.Mode().Type() != fs.ModeSocket {
			return []finding{{Level: bad, Command: fault.Hintf("mv %s %s.old", x.paths.Socket, x.paths.Socket),
				Text: "the daemon cannot start: its socket " + x.paths.Socket + " is another kind of file"}}
		}
		if err := x.startTrouble(); err != nil {
			return []finding{failed(bad, err)}
		}
		found = append(found, finding{Level: fine, Text: "not running; it starts on demand"})
	case x.statusErr != nil:
		f := failed(bad, x.statusErr)
		f.safe = false // what answers at the socket may have chosen the hint
		return []finding{f}
	case x.status.Version != version.String():
		found = append(found, finding{Level: bad, safe: true, Command: fault.Hintf("broker service restart"),
			Text: fmt.Sprintf("the daemon has version %s, and this program has version %s", dash(x.status.Version), version.String())})
	default:
		found = append(found, finding{Level: fine, Text: fmt.Sprintf("running, pid %d, version %s%s", x.status.PID,
			x.status.Version, how(x.status.StartedBy))})
	}
	known := map[string]bool{}
	if x.set != nil {
		for _, w := range append(x.set.Warnings(), x.set.Advice()...) {
			known[fault.Line(w.String())] = true
		}
		for _, old := range x.set.OldKeys(time.Now()) { // checkRotation reports them
			known[old.String()] = true
		}
	}
	for _, w := range x.status.Warnings {
		if !known[w] && x.err == nil {
			found = append(found, finding{Level: risky, Text: w})
		}
	}
	if locked := x.lockWritten(); locked != nil || x.status.Locked {
		found = append(found, finding{Level: fine, Text: "Broker is locked, and hands out nothing", Command: "broker unlock"})
	}
	return found
}

// startTrouble returns why no socket can be made: the nearest existing directory on its path cannot be written.
func (x *examination) startTrouble() error {
	dir := filepath.Dir(x.paths.Socket)
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err := atomicfile.Check(filepath.Join(dir, "start.lock")); err != nil {
		return fault.New(fault.Failed, "the daemon cannot start: %w", err).WithHint("%s", record.Unwritten(dir, err))
	}
	return nil
}

// checkService reports a service that is installed and cannot run.
func (x *examination) checkService(ctx context.Context) []finding {
	r, err := x.service(ctx)
	if err != nil || len(r.Files) == 0 {
		return nil // this system has no service, or checkDaemon reports the error
	}
	install := fault.Hintf("broker service install")
	switch {
	case !r.Installed:
		return []finding{{Level: bad, Text: "the service is installed in part", Command: install, safe: true}}
	case !r.ProgramExists:
		return []finding{{Level: bad, Text: "the service starts " + r.Program + ", which does not exist", Command: install, safe: true}}
	case r.Answers && r.Host == "systemd" && r.Active != "active":
		return []finding{{Level: risky, Text: "the socket of the service is " + dash(r.Active),
			Command: fault.Hintf("broker service restart"), safe: true}}
	}
	return []finding{{Level: fine, Text: "the service is installed"}}
}

// clockSlow is the offset from which AWS refuses requests; it allows 15 minutes, and 5 in some services.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
const clockSlow = 5 * time.Minute

// checkClock reports a clock that is wrong, as far as the daemon knows from the answers of AWS.
func (x *examination) checkClock(context.Context) []finding {
	if x.statusErr != nil || x.status.Clock == nil {
		return []finding{{Level: fine, Text: "the clock is not compared: no daemon runs that has had an answer of AWS"}}
	}
	off := time.Duration(x.status.Clock.Offset * float64(time.Second))
	if off.Abs() < mfa.Period {
		return []finding{{Level: fine, Text: "the clock of this machine agrees with AWS's"}}
	}
	f := finding{Level: risky, Command: fault.Hintf("sudo timedatectl set-ntp true")}
	if runtime.GOOS == "darwin" {
		f.Command = fault.Hintf("sudo sntp -sS time.apple.com")
	}
	if off.Abs() >= clockSlow {
		f.Level = bad
	}
	side := "behind"
	if off < 0 {
		side = "ahead of"
	}
	f.Text = fmt.Sprintf("the clock of this machine is %s %s AWS's, by the answer of %s",
		profiles.FormatDuration(off.Abs()), side, localTime(x.status.Clock.At))
	return []finding{f}
}

// versionTimeout is how long one of our programs may take to print its version.
const versionTimeout = 5 * time.Second

// checkPrograms reports programs that are missing or of another version.
func (x *examination) checkPrograms(ctx context.Context) (found []finding) {
	for name, find := range map[string]func() (string, error){"brokerd": x.daemonProgram, "credproc": credprocProgram} {
		path, err := find()
		if err != nil {
			found = append(found, failed(bad, err))
			continue
		}
		out, err := child.Command{Program: path, Args: []string{"--version"}, Env: os.Environ(), Timeout: versionTimeout}.Run(ctx)
		theirs := strings.TrimPrefix(strings.TrimSpace(string(out)), name+" ")
		switch {
		case err != nil:
			found = append(found, finding{Level: bad, Text: path + " cannot be run: " + err.Error(), Command: fault.Hintf("ls -l %s", path)})
		case theirs != version.String():
			found = append(found, finding{Level: bad, Command: fault.Hintf("command -v broker brokerd credproc"),
				Text: fmt.Sprintf("%s has version %.40s, and this program has version %s; install all of one version side by side",
					path, theirs, version.String())})
		}
	}
	slices.SortFunc(found, func(a, b finding) int { return strings.Compare(a.Text, b.Text) })
	return found
}

// maxAuditFindings is how many findings about the audit log are shown.
const maxAuditFindings = 3

// checkAudit reports an audit log that is missing, cannot be read, or was changed.
func (x *examination) checkAudit(ctx context.Context) (found []finding) {
	r, err := x.openLog()
	if err != nil {
		return []finding{failed(bad, err)}
	}
	defer r.Close()
	if r.Empty() {
		if x.statusErr != nil {
			return []finding{{Level: fine, Text: "there is no audit log yet: " + r.Path()}}
		}
		return []finding{{Level: bad, safe: true, Command: fault.Hintf("broker service restart"),
			Text: "the daemon runs, and there is no audit log: " + r.Path()}}
	}
	all := x.verify(ctx, r).Findings
	for i, f := range all {
		if i == maxAuditFindings {
			found = append(found, finding{Level: bad, Text: plural(len(all)-i, "more finding"), Command: "broker log verify"})
			break
		}
		found = append(found, finding{Level: bad, Text: f.String(), Command: "broker log verify"})
	}
	return found
}

// checkTools names the tools on the PATH that cannot read credential_process, with the delivery for each.
func (x *examination) checkTools(context.Context) (found []finding) {
	profile := "PROFILE"
	if x.set != nil {
		for _, s := range x.set.List() {
			if s.Linked && s.Problem == "" {
				profile = s.Name
				break
			}
		}
	}
	for _, t := range profiles.WithoutHelper(profile) {
		if path, err := exec.LookPath(t.Program); err == nil {
			found = append(found, finding{Level: fine, Text: t.Name + " (" + path + ") cannot read credential_process",
				Command: t.Delivery})
		}
	}
	return found
}
