package vault

var platform = []backend{
	{name: WinCred, open: openWinCred},
	fileBackend,
}
