package vault

// A desktop's own keyring goes first, then a password store that somebody has set up, then the file. The kernel's is never
// taken unasked, since it forgets.
var platform = []backend{
	{name: SecretService},
	{name: KWallet},
	{name: Pass},
	{name: File},
	{name: Keyctl, byName: true, note: "kept in the kernel's memory: a reboot empties it"},
}
