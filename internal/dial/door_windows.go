package dial

import (
	"context"
	"path/filepath"
)

// Door connects to the socket name of the door in a directory. The same rules hold as for Dial.
func Door(ctx context.Context, dir, name string) (*Conn, error) {
	return Dial(ctx, filepath.Join(dir, name))
}
