package atomicfile

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxBackups is how many backups of a file are kept: the first one and the latest ones.
const maxBackups = 5

// BackupSuffix is appended to the name of a file to name its first backup.
const BackupSuffix = ".broker-backup"

// Backups returns the paths of the backups at path, the oldest first. The first one is at path itself and is never
// overwritten. Later ones are path.1, path.2 and so on.
func Backups(path string) []string {
	var numbers []int
	names, _ := os.ReadDir(filepath.Dir(path))
	for _, n := range names {
		digits, is := strings.CutPrefix(n.Name(), filepath.Base(path)+".")
		if number, err := strconv.Atoi(digits); is && err == nil && number > 0 && strconv.Itoa(number) == digits {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	var all []string
	if _, err := os.Lstat(path); err == nil {
		all = append(all, path)
	}
	for _, number := range numbers {
		all = append(all, path+"."+strconv.Itoa(number))
	}
	return all
}

// Backup says where Edit keeps the bytes of a file that it changes, and whether.
type Backup struct {
	Path string // of the first backup; see Backups
	// Wanted decides it while the file is locked. dst are the new bytes. nil means always.
	Wanted func(src, dst []byte) bool
	// Kept is the path of the file that holds the bytes before the change. Edit sets it; it is empty if no backup was
	// wanted.
	Kept string
}

// keep makes a backup with these bytes, mode 0600, unless the latest has them, and removes those that are too many.
func (b *Backup) keep(src []byte) (err error) {
	all := Backups(b.Path)
	b.Kept = b.Path
	if len(all) > 0 {
		latest := all[len(all)-1]
		if old, _, err := read(latest); err != nil || bytes.Equal(old, src) {
			b.Kept = latest
			return err
		}
		number, _ := strconv.Atoi(strings.TrimPrefix(latest, b.Path+".")) // 0 for the first
		if all[0] == b.Path {
			b.Kept = b.Path + "." + strconv.Itoa(number+1)
		}
	}
	if err := Write(b.Kept, src, 0o600); err != nil {
		return err
	}
	for i := 1; i <= len(all)+1-maxBackups; i++ {
		if err := os.Remove(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// Backed reports whether one of the backups at path holds this text.
func Backed(path string, text []byte) bool { return len(withText(path, text)) > 0 }

// Forget removes the backups at path that hold this text. The first backup stays while there are others.
func Forget(path string, text []byte) error {
	for _, name := range slices.Backward(withText(path, text)) {
		if name == path && len(Backups(path)) > 1 {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// withText returns the backups that hold this text. It reads only regular files of its length.
func withText(path string, text []byte) (same []string) {
	for _, name := range Backups(path) {
		if info, err := os.Stat(name); err != nil || info.Size() != int64(len(text)) {
			continue
		}
		if old, _, err := read(name); err == nil && bytes.Equal(old, text) {
			same = append(same, name)
		}
	}
	return same
}
