package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
)

// plainPlaces are the files below HOME, beside those of AWS, in which people leave keys: the history and the startup
// files of shells, and the settings of tools.
var plainPlaces = []string{
	".bash_history", ".zsh_history", ".zhistory", ".histfile", ".history", ".ash_history", ".sh_history",
	".local/share/fish/fish_history",
	".local/share/powershell/PSReadLine/ConsoleHost_history.txt",
	"AppData/Roaming/Microsoft/Windows/PowerShell/PSReadLine/ConsoleHost_history.txt",
	".profile", ".bash_profile", ".bashrc", ".zshenv", ".zprofile", ".zshrc", ".config/fish/config.fish",
	".s3cfg", ".boto",
}

// Limits for what --deep reads.
const (
	maxDeepFile  = 8 << 20 // bytes of one file
	maxDeepDepth = 5       // directories below HOME
	maxDeepFiles = 200_000 // files and directories that are looked at
)

var (
	// plainSecret finds the secret of a key with its name, such as AWS_SECRET_ACCESS_KEY=… in a script, or
	// aws_secret_access_key … as an argument of `aws configure set`. An AWS secret has 40 characters.
	plainSecret = lazyregexp.New(`(?i)([a-z_]*secret_?(?:access_?)?key)[^a-z0-9\n]{1,4}([a-z0-9/+]{40})(?:[^a-z0-9/+]|$)`)
	plainID     = lazyregexp.New(`\bAKIA[A-Z0-9]{16}\b`)
)

// checkDeep looks for keys in files that no AWS tool reads.
func (x *examination) checkDeep(ctx context.Context) (found []finding) {
	home, err := os.UserHomeDir()
	if !x.deep || err != nil {
		return []finding{{Level: fine, Text: "shell history, startup files and .env files were not read, and AWS was not asked for second keys",
			Command: fault.Hintf("broker doctor --deep")}}
	}
	var paths []string
	for _, name := range plainPlaces {
		paths = append(paths, filepath.Join(home, filepath.FromSlash(name)))
	}
	more, whole := envFiles(ctx, home)
	paths = append(paths, more...)
	if here, err := os.Getwd(); err == nil && !strings.HasPrefix(here+"/", home+"/") {
		more, all := envFiles(ctx, here)
		paths, whole = append(paths, more...), whole && all
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		found = append(found, x.checkDeepFile(path)...)
	}
	if !whole {
		found = append(found, finding{Level: risky, Text: fmt.Sprintf("only %d files were looked at", maxDeepFiles),
			Command: fault.Hintf("cd DIRECTORY && broker doctor --deep")})
	}
	return found
}

// readDeep returns what a file of this user holds, or nil. In a directory that others can write to, such as /tmp, they
// can replace a file at any time. So it follows no link, waits for no pipe, and checks the file that it has opened.
func readDeep(path string) []byte {
	f, info, err := system.OpenRegular(path, system.NoFollow)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	access, err := system.AccessOf(f)
	if err != nil || !access.Ours || info.Size() > maxDeepFile {
		return nil
	}
	src, err := io.ReadAll(io.LimitReader(f, maxDeepFile))
	if err != nil {
		return nil
	}
	return src
}

// checkDeepFile reports the secrets in one file. It shows none of them.
func (x *examination) checkDeepFile(path string) []finding {
	src := readDeep(path)
	defer clear(src)
	var lines, names, ids []string
	secrets := map[string]bool{}
	for i, line := range bytes.Split(src, []byte("\n")) {
		for j, m := range plainSecret.FindAllStringSubmatch(string(line)) {
			if j == 0 {
				lines = append(lines, strconv.Itoa(i+1))
			}
			secrets[m[2]] = true
			if !slices.Contains(names, m[1]) {
				names = append(names, m[1])
			}
		}
		for _, m := range plainID.FindAllStringSubmatch(string(line)) {
			if !slices.Contains(ids, m[0]) {
				ids = append(ids, m[0])
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	text := path + " has the secret of a key in line " + strings.Join(lines[:min(len(lines), fewProfiles)], ", ")
	if n := len(lines) - fewProfiles; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	if len(ids) > 0 {
		text += "; it names the key " + secret.Tail(ids[0])
	}
	if n := len(ids) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	unknown := func(id string) bool { return !x.isStored(id) }
	// If there are more secrets than keys, one of them belongs to something else, such as an application.
	if len(ids) >= len(secrets) && !slices.ContainsFunc(ids, unknown) { // nothing is lost with the lines
		return []finding{{Level: bad, Text: text, Command: removeLines(path, names)}}
	}
	if len(ids) == 0 { // it may be the secret of a stored key
		return []finding{{Level: bad, Text: text + ", without a key id; if it is not the secret of a stored key, store it before you " +
			"remove the line", Command: fault.Hintf("vi +%s %s", lines[0], path)}}
	}
	return []finding{{Level: bad, Text: text + "; store it before you remove the line", Command: fault.Hintf("broker add SOURCE")}}
}

// isStored reports whether a source has this key.
func (x *examination) isStored(id string) bool {
	return x.set != nil &&
		slices.ContainsFunc(x.set.Sources(), func(s profiles.Source) bool { return s.AccessKeyID == id })
}

// removeLines returns the command that removes the lines with a secret under these names from a file.
func removeLines(path string, names []string) fault.Hint {
	var script []string
	for _, name := range names {
		script = append(script, `\|`+name+`[^A-Za-z0-9]\{1,4\}[A-Za-z0-9/+]\{40\}|d`)
	}
	if runtime.GOOS == "linux" {
		return fault.Hintf("sed -i %s %s", strings.Join(script, ";"), path)
	}
	return fault.Hintf("sed -i '' %s %s", strings.Join(script, ";"), path)
}

// envFiles returns the .env files below a directory. whole is false if there were too many files to look at.
func envFiles(ctx context.Context, top string) (paths []string, whole bool) {
	seen := 0
	_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if seen++; seen > maxDeepFiles || ctx.Err() != nil {
			return filepath.SkipAll
		}
		if err != nil {
			return nil
		}
		name := entry.Name()
		if entry.IsDir() {
			below, _ := filepath.Rel(top, path)
			hidden := path != top && strings.HasPrefix(name, ".")
			if hidden || name == "node_modules" || strings.Count(below, string(filepath.Separator)) >= maxDeepDepth {
				return filepath.SkipDir
			}
			return nil
		}
		if name == ".env" || name == ".envrc" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env") {
			paths = append(paths, path)
		}
		return nil
	})
	return paths, seen <= maxDeepFiles
}
