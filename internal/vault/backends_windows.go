package vault

var platform = []backend{
	{name: WinCred},
	{name: File},
}
