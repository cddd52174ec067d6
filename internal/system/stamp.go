package system

// Stamp tells one state of a file from another without reading it. Two that are equal are of the same state, as far as
// the system can tell. The zero Stamp is of no file.
type Stamp struct {
	Size          int64
	Modified      int64 // Unix time in nanoseconds
	Changed       int64 // the same; no program can set it back, except where the system has no such time
	Device, Inode uint64
	Mode          uint32 // as the system has it
	Owner         int    // uid; -1 where the system does not say
}

// SameFile reports whether two stamps are of one file. On Windows it is always true: a file that we have open is
// neither replaced nor removed there.
func (s Stamp) SameFile(other Stamp) bool { return s.Device == other.Device && s.Inode == other.Inode }
