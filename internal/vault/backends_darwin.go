package vault

var platform = []backend{
	{name: Keychain, open: openKeychain},
	{name: Pass, open: openPass},
	fileBackend,
}
