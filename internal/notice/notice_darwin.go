package notice

import (
	"context"
	"os"

	"broker/internal/child"
)

// script takes the texts from the environment, so that none of them is interpreted as AppleScript.
const script = `display notification (system attribute "BROKER_TEXT") with title (system attribute "BROKER_TITLE")`

func show(ctx context.Context, title, text string) error {
	_, err := child.Command{Program: "osascript", Args: []string{"-e", script},
		Env: append(os.Environ(), "BROKER_TITLE="+title, "BROKER_TEXT="+text), Timeout: timeout}.Run(ctx)
	return err
}
