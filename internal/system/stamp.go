package system

// Stamp identifies one state of a file without reading its content. Two equal stamps mean the same state, as
// precisely as the system can tell. The zero Stamp stands for a missing file.
type Stamp struct {
	Size          int64
	Modified      int64 // Unix time in nanoseconds
	Changed       int64 // likewise; no program can set it back, except on systems without such a time
	Device, Inode uint64
	Mode          uint32 // as the system reports it
	Owner         int    // uid; -1 if the system does not report it
}

// SameFile reports whether two stamps are of one file. On Windows it is always true: there, a file that we have
// open cannot be replaced or removed.
func (s Stamp) SameFile(other Stamp) bool { return s.Device == other.Device && s.Inode == other.Inode }
