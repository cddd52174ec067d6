// Package nodump owns the first thing that a program of ours does on Linux: it makes the process not dumpable, before
// the other packages are initialised. Until then, other processes of the same user can open its memory, and a
// descriptor that they opened stays good. It refuses to import anything but package syscall.
//
// It works by order. Go initialises packages that are ready in the order of their import paths, and "broker/…"
// sorts before most of the standard library and before "github.com/…". So the turn of this package comes as soon as
// package syscall is initialised.
package nodump
