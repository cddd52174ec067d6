# PowerShell completion for broker: dot-source it from your profile.
Register-ArgumentCompleter -Native -CommandName broker -ScriptBlock {
	param($wordToComplete, $commandAst, $cursorPosition)
	$words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
	if ($wordToComplete -ne '' -and $words.Count -gt 0 -and -not $wordToComplete.StartsWith('-')) {
		$words = @($words | Select-Object -SkipLast 1)
	}
	& broker @words --generate-bash-completion 2>$null |
		Where-Object { $_ -like "$wordToComplete*" } |
		ForEach-Object {
			$word, $what = $_ -split "`t", 2
			[System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $(if ($what) { $what } else { $word }))
		}
}
