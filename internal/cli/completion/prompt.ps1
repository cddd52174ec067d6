# Show the profile of the shell's AWS session, and the time left, in the prompt:
# broker completion --prompt powershell | Out-String | Invoke-Expression in your profile.
function broker_prompt {
	if ($env:BROKER_PROFILE) { "($(& credproc --prompt 2>$null)) " }
}
if (-not (Test-Path function:__broker_before_prompt)) {
	Copy-Item function:prompt function:__broker_before_prompt
	function prompt { "$(broker_prompt)$(__broker_before_prompt)" }
}
