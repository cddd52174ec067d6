# A prompt that shows whose AWS session a shell of broker has, and how long it lasts:
# broker completion --prompt powershell | Out-String | Invoke-Expression in your profile.
function broker_prompt {
	if ($env:BROKER_PROFILE) { "($(& credproc --prompt 2>$null)) " }
}
if (-not (Test-Path function:__broker_before_prompt)) {
	Copy-Item function:prompt function:__broker_before_prompt
	function prompt { "$(broker_prompt)$(__broker_before_prompt)" }
}
