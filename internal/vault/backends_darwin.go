package vault

var platform = []backend{
	{name: Keychain},
	{name: Pass},
	{name: File},
}
