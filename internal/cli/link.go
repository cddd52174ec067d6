package cli

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/urfave/cli/v2"

	"broker/internal/atomicfile"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/record"
)

func (p *program) profilesLinkCommand() *cli.Command {
	return &cli.Command{
		Name:  "link",
		Usage: "make AWS tools ask Broker for a profile",
		UsageText: "broker profiles link --all --dry-run\n" +
			"broker profiles link prod",
		ArgsUsage: "NAME…",
		Description: "Moves the definition of the role from the AWS files to the registry, and puts a credential_process in\n" +
			"its place. Everything else stays. `broker profiles unlink` undoes it.",
		Flags: append(linkFlags("link all profiles that can be linked"),
			&cli.BoolFlag{Name: "yes", Usage: "do not ask about lines that count only in the registry, such as mfa_process"}),
		BashComplete: p.completeManyProfiles,
		Action:       p.profilesLink,
	}
}

func (p *program) profilesUnlinkCommand() *cli.Command {
	return &cli.Command{
		Name:  "unlink",
		Usage: "restore a linked profile in the AWS files",
		UsageText: "broker profiles unlink prod\n" +
			"broker profiles unlink --all",
		ArgsUsage:    "NAME…",
		Flags:        linkFlags("unlink all linked profiles"),
		BashComplete: p.completeManyProfiles,
		Action:       p.profilesUnlink,
	}
}

func linkFlags(all string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: all},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would change, and write nothing"},
	}
}

func (p *program) profilesLink(c *cli.Context) error {
	names, err := p.linkNames(c)
	if err != nil {
		return err
	}
	credproc, err := credprocProgram()
	if err != nil {
		return err
	}
	return p.link(c.Context, names, credproc, linkOptions{c.Bool("all"), c.Bool("dry-run"), c.Bool("yes")})
}

// link links profiles, or all if names is nil.
func (p *program) link(ctx context.Context, names []string, credproc string, o linkOptions) error {
	plan := func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		return profiles.Link(p.files(), docs, names, credproc)
	}
	return p.rewrite(ctx, linking{o, "link", "linked", "is linked already", false, profiles.LinkOrder, plan})
}

func (p *program) profilesUnlink(c *cli.Context) error {
	names, err := p.linkNames(c)
	if err != nil {
		return err
	}
	plan := func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		return profiles.Unlink(p.files(), docs, names)
	}
	o := linkOptions{all: c.Bool("all"), dryRun: c.Bool("dry-run")}
	return p.rewrite(c.Context, linking{o, "unlink", "unlinked", "is not linked", true, profiles.UnlinkOrder, plan})
}

// linkNames returns the exact names of the typed profiles, or nil for --all.
func (p *program) linkNames(c *cli.Context) ([]string, error) {
	if c.Bool("all") == c.Args().Present() {
		return nil, fault.New(fault.Usage, "%s needs names, or --all", c.Command.Name).
			WithHint("%s --all --dry-run", typed(c))
	}
	return p.findAll(c.Args().Slice())
}

// linkOptions are the options of link and unlink.
type linkOptions struct{ all, dryRun, yes bool }

// linking holds the differences between link and unlink.
type linking struct {
	linkOptions
	verb, done, already string
	undo                bool
	order               []profiles.Document
	plan                profiles.Plan
}

func (p *program) rewrite(ctx context.Context, what linking) error {
	all := what.all
	planned := map[string]bool{} // the profiles that change
	plan := func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		next, out, err := what.plan(docs)
		for i, o := range out {
			if planned[o.Name] && fault.Is(o.Err, fault.NotFound) { // nothing was left of its section
				out[i] = profiles.Outcome{Name: o.Name, State: profiles.Unchanged}
				continue
			}
			if err == nil && !all && o.Err != nil { // named profiles are linked all together or not at all
				err = o.Err
			}
		}
		return next, out, err
	}
	docs, next, first, err := p.planned(plan)
	if err != nil {
		return err
	}
	for _, o := range first {
		planned[o.Name] = o.State == profiles.Changed
	}
	asks := asksOf(first)
	if what.dryRun {
		for _, line := range asks {
			p.warn([]string{"needs your yes, or --yes: " + line})
		}
		if !slices.ContainsFunc(first, func(o profiles.Outcome) bool { return o.State == profiles.Changed }) {
			p.say("nothing to %s", what.verb)
		}
		return p.preview(docs, next, first)
	}
	if len(asks) > 0 {
		for _, line := range asks {
			p.say("%s", fault.Line(line))
		}
		if !what.yes {
			const question = "These lines have no effect where they are. Move them to the registry?"
			if err := p.confirm(ctx, question); err != nil {
				return err
			}
		}
	}
	if err := p.checkWrites(what.order, docs, next); err != nil {
		return err
	}
	asked := func(docs profiles.Documents) (profiles.Documents, []profiles.Outcome, error) {
		next, out, err := plan(docs)
		for _, line := range asksOf(out) {
			if err == nil && !slices.Contains(asks, line) {
				err = fault.New(fault.NotConfirmed, "a file changed while you were asked; you did not confirm %s", line)
			}
		}
		return next, out, err
	}
	edit := func(d profiles.Document, edit func([]byte) ([]byte, error)) error {
		return p.editDocument(d, what.undo, edit)
	}
	out, err := profiles.Rewrite(what.order, p.readDocument, edit, asked)
	if err != nil {
		return err
	}
	changed := false
	for _, o := range out {
		name := fault.Line(o.Name)
		switch {
		case o.State == profiles.Changed:
			changed = true
			p.say("%s %s", what.done, name)
		case o.State == profiles.Unchanged && !all:
			p.say("%s %s", name, what.already)
		case errors.Is(o.Err, profiles.ErrOnlySettings):
		case o.State == profiles.Left:
			p.say("left %s: %s", name, fault.Line(o.Err.Error()))
		case o.State == profiles.Refused:
			p.warn([]string{o.Name + " was not " + what.done + ": " + o.Err.Error()})
		}
		if o.Note != "" {
			p.warn([]string{o.Name + ": " + o.Note})
		}
	}
	if !changed && all {
		p.say("nothing to %s", what.verb)
	}
	return nil
}

// asksOf returns the lines that a person has to confirm.
func asksOf(out []profiles.Outcome) []string {
	var lines []string
	for _, o := range out {
		lines = append(lines, o.Asks...)
	}
	return lines
}

// document returns the path of a file.
func (p *program) document(d profiles.Document) string {
	switch d {
	case profiles.ConfigDocument:
		return p.paths.Config
	case profiles.CredentialsDocument:
		return p.paths.Credentials
	case profiles.RegistryDocument:
		return p.paths.Registry
	}
	return p.paths.Linked()
}

func (p *program) readDocument(d profiles.Document) ([]byte, error) {
	if d == profiles.RecordsDocument {
		src, err := record.Read(p.paths.Linked(), maxLinked, record.Guarded)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return src, errors.Join(err, p.checkLinked(src))
	}
	return profiles.ReadFile(p.document(d))
}

// readDocuments reads all files.
func (p *program) readDocuments() (docs profiles.Documents, err error) {
	for d := range profiles.Document(len(docs)) {
		if docs[d], err = p.readDocument(d); err != nil {
			return docs, err
		}
	}
	return docs, nil
}

// maxLinked is the largest size of the records of link, in bytes.
const maxLinked = 16 << 20

// checkLinked refuses records that link cannot have written, so that they are not overwritten.
func (p *program) checkLinked(src []byte) error {
	if err := profiles.CheckRecords(src); err != nil {
		path := fault.Word(p.paths.Linked())
		return fault.New(fault.Config, "%s is damaged: %w", p.paths.Linked(), err).WithHint("mv %s %s.damaged", path, path)
	}
	return nil
}

// linkedWait is how long to wait for another command that writes the records of link.
const linkedWait = 20 * time.Second

// editDocument writes one of the files. The AWS files are the user's own work, so it keeps a backup of them, but
// never of a file that holds a key.
func (p *program) editDocument(d profiles.Document, undo bool, edit func([]byte) ([]byte, error)) error {
	if d == profiles.RecordsDocument {
		ctx, cancel := context.WithTimeout(context.Background(), linkedWait)
		defer cancel()
		err := record.Edit(ctx, p.paths.Linked(), maxLinked, func(src []byte) ([]byte, error) {
			if err := p.checkLinked(src); err != nil {
				return nil, err
			}
			return edit(src)
		})
		if _, ok := errors.AsType[syscall.Errno](err); ok && !errors.Is(err, record.ErrRefused) {
			return writeFault(p.paths.Linked(), err)
		}
		return err
	}
	if d == profiles.RegistryDocument { // needs no backup, because unlink restores it
		return p.editFile(p.paths.Registry, nil, edit)
	}
	return p.editWithBackup(p.document(d), undo, edit)
}

// editWithBackup edits a file, keeps a backup and prints its path. It keeps no backup of a file that holds a key.
// With undo, an edit that restores the text of a backup makes no new backup, and removes that one.
func (p *program) editWithBackup(path string, undo bool, edit func([]byte) ([]byte, error)) error {
	var secret bool
	var restored []byte // what a backup holds
	backup := atomicfile.Backup{Path: path + atomicfile.BackupSuffix}
	backup.Wanted = func(src, dst []byte) bool {
		secret, restored = profiles.HoldsSecret(src), nil
		if undo && atomicfile.Backed(backup.Path, dst) {
			restored = dst
		}
		return !secret && restored == nil
	}
	if err := p.editFile(path, &backup, edit); err != nil {
		return err
	}
	switch {
	case restored != nil:
		if err := atomicfile.Forget(backup.Path, restored); err != nil {
			p.warn([]string{"a backup is no longer needed and could not be removed: " + err.Error()})
		}
	case secret:
		p.warn([]string{"no backup is made of " + path + ", because it holds a secret in plain text"})
	case backup.Kept != "":
		p.say("changed %s; the old one is in %s", path, backup.Kept)
	}
	return nil
}

// planned reads the files and runs the plan on them.
func (p *program) planned(plan profiles.Plan) (docs, next profiles.Documents, out []profiles.Outcome, err error) {
	if docs, err = p.readDocuments(); err != nil {
		return docs, next, nil, err
	}
	next, out, err = plan(docs)
	return docs, next, out, err
}

// checkWrites returns an error if one of the changed files cannot be written. It runs before the first write.
func (p *program) checkWrites(order []profiles.Document, docs, next profiles.Documents) error {
	for _, d := range order {
		if !bytes.Equal(docs[d], next[d]) {
			if err := writeFault(p.document(d), atomicfile.Check(p.document(d))); err != nil {
				return err
			}
		}
	}
	return nil
}

// preview prints what a plan would change, without secrets.
func (p *program) preview(docs, next profiles.Documents, out []profiles.Outcome) error {
	for _, o := range out {
		if o.Err != nil && !errors.Is(o.Err, profiles.ErrOnlySettings) {
			p.warn([]string{o.Name + " stays as it is: " + o.Err.Error()})
		}
		if o.Note != "" {
			p.warn([]string{o.Name + ": " + o.Note})
		}
	}
	for _, d := range []profiles.Document{profiles.ConfigDocument, profiles.CredentialsDocument,
		profiles.RegistryDocument} {
		p.showChange(d, docs[d], next[d])
	}
	return nil
}

// showChange prints the unified diff of one of the files, without secrets.
func (p *program) showChange(d profiles.Document, src, dst []byte) {
	name := p.document(d)
	for line := range strings.Lines(string(diff.Diff(name, profiles.Redact(d, src), name, profiles.Redact(d, dst)))) {
		p.raw(printable(line))
	}
}

// printable returns the line without characters that control a terminal.
func printable(line string) string {
	line = strings.TrimRight(line, "\r\n")
	if !strings.ContainsFunc(line, func(r rune) bool { return !fault.Printable(r) && r != '\t' }) {
		return line
	}
	return fault.Line(line)
}

// fewProfiles is the most names that the command in a note lists.
const fewProfiles = 5

// trouble is one thing that is wrong, with the command that fixes it, if there is one.
type trouble struct {
	text    string
	command fault.Hint
}

// lines returns troubles as lines of text.
func lines(list []trouble) (texts []string) {
	for _, t := range list {
		if t.command != "" {
			t.text += "; " + string(t.command)
		}
		texts = append(texts, t.text)
	}
	return texts
}

// helperTrouble reports what is wrong with the helper that AWS tools run for linked profiles. It ignores profiles
// that are not linked: anything may be in their files.
func helperTrouble(list []profiles.Summary) (found []trouble) {
	asking := map[string][]string{}
	var helpers []string
	for _, s := range list {
		if !s.Linked {
			continue
		}
		if asking[s.Helper] == nil {
			helpers = append(helpers, s.Helper)
		}
		asking[s.Helper] = append(asking[s.Helper], s.Name)
	}
	if len(helpers) == 0 {
		return nil
	}
	own, err := credprocProgram()
	mine, serr := os.Stat(own)
	if err != nil || serr != nil {
		own = ""
	}
	for _, helper := range helpers {
		var why string
		if onNetwork(runtime.GOOS, helper) {
			why = "is not a local file and was not checked"
		} else {
			found, err := exec.LookPath(helper)
			info, serr := os.Stat(found)
			switch {
			case err != nil || serr != nil:
				why = "cannot be run"
			case own != "" && !os.SameFile(mine, info):
				why = "is not " + string(fault.Word(own)) + ", the helper of this Broker"
			default:
				continue
			}
		}
		of := string(fault.Word(asking[helper][0]))
		if n := len(asking[helper]) - 1; n > 0 {
			of += " and " + plural(n, "other profile")
		}
		mend := fault.Hintf("broker profiles link --all")
		if len(asking[helper]) <= fewProfiles {
			mend = fault.Hintf("broker profiles link %s", asking[helper])
		}
		found = append(found, trouble{"for " + of + ", AWS tools run " + string(fault.Word(helper)) + ", which " + why, mend})
	}
	return found
}

// onNetwork reports whether a path may be on another computer, or a device. On Windows, looking at a UNC path such as
// \\server\share\credproc sends a hash of the user's password to that server.
// https://learn.microsoft.com/en-us/dotnet/standard/io/file-path-formats
func onNetwork(system, path string) bool {
	path = strings.ReplaceAll(path, `\`, "/")
	return system == "windows" && (strings.HasPrefix(path, "//") || strings.HasPrefix(path, "/??/"))
}

// credprocProgram returns the credproc beside this program, or else on the PATH. Its path is written to files that
// outlive an upgrade. If the PATH has a stable name for the same program, such as a link to a directory with a
// version in its name, credprocProgram returns that name.
func credprocProgram() (string, error) {
	if runtime.GOOS == "windows" {
		// cmd.exe, botocore and the shells split a path with slashes or backslashes in different ways. This is
		// untested.
		return "", fault.New(fault.Failed, "this version does not write AWS's files on Windows: put `credential_process = credproc NAME` into the profile, with credproc on the PATH, and its role into the registry")
	}
	self, err := os.Executable()
	if err != nil {
		return "", fault.New(fault.Failed, "find this program: %w", err)
	}
	names := []string{}
	if found, err := exec.LookPath("credproc"); err == nil {
		names = append(names, found)
	}
	if strings.Contains(os.Args[0], "/") {
		names = append(names, filepath.Join(filepath.Dir(os.Args[0]), "credproc"))
	}
	names = append(names, filepath.Join(filepath.Dir(self), "credproc"))
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	beside, err := os.Stat(filepath.Join(filepath.Dir(self), "credproc"))
	for _, name := range names {
		info, statErr := os.Stat(name)
		switch {
		case statErr != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		case err == nil && !os.SameFile(beside, info):
		default:
			return filepath.Abs(name)
		}
	}
	return "", fault.New(fault.Failed, "credproc, which AWS tools run, is neither beside this program nor on the PATH; "+
		"install broker, brokerd and credproc of one version side by side").WithHint("command -v broker brokerd credproc")
}
