package system

import "syscall"

func stampOf(st *syscall.Stat_t) Stamp {
	return Stamp{st.Size, st.Mtim.Nano(), st.Ctim.Nano(), uint64(st.Dev), st.Ino, st.Mode, int(st.Uid)}
}
