//go:build !linux && !darwin && !windows

package vault

var platform = []backend{
	{name: Pass},
	{name: File},
}
