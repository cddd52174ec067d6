// Package nodump makes a process not dumpable on Linux as the first thing in each program, before the other
// packages are initialized. Until then, other processes of the same user can open its memory, and a descriptor
// that they opened stays valid. It must import nothing but package syscall.
//
// It relies on the order of initialization. Go initializes the packages that are ready in the order of their
// import paths, and "broker/…" sorts before most of the standard library and before "github.com/…". So this
// package is initialized right after package syscall.
package nodump
