// Package notice shows notices on the desktop of the user who runs the daemon.
package notice

import (
	"context"
	"time"
)

// timeout limits Show: a stopped bus accepts calls and never answers.
const timeout = 10 * time.Second

// Show shows a notice of one line, if there is a desktop. The title and the text must be safe to print.
func Show(ctx context.Context, title, text string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return show(ctx, title, text)
}
