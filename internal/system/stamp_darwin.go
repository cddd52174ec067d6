package system

import "syscall"

func stampOf(st *syscall.Stat_t) Stamp {
	return Stamp{st.Size, st.Mtimespec.Nano(), st.Ctimespec.Nano(), uint64(st.Dev), st.Ino, uint32(st.Mode), int(st.Uid)}
}
