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

// keep writes src to a new backup with mode 0600, unless the latest backup has the same bytes. Then it removes
// surplus backups, but never the first one.
func keep(path string, src []byte) error {
	all := Backups(path)
	name := path
	if len(all) > 0 {
		latest := all[len(all)-1]
		if old, _, err := read(latest); err != nil || bytes.Equal(old, src) {
			return err
		}
		number, _ := strconv.Atoi(strings.TrimPrefix(latest, path+".")) // 0 for path itself
		if all[0] == path {
			name = path + "." + strconv.Itoa(number+1)
		}
	}
	if err := Write(name, src, 0o600); err != nil {
		return err
	}
	for i := 1; i <= len(all)+1-maxBackups; i++ {
		if err := os.Remove(all[i]); err != nil {
			return err
		}
	}
	return nil
}
