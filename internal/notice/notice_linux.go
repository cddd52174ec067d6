package notice

import (
	"context"
	"errors"
	"html"
	"os"

	"github.com/godbus/dbus/v5"

	"broker/internal/environ"
)

// https://specifications.freedesktop.org/notification-spec/latest/protocol.html
const (
	server   = "org.freedesktop.Notifications"
	path     = "/org/freedesktop/Notifications"
	byServer = int32(-1) // the server decides how long it shows the notice
)

// show calls the notification server on the session bus.
func show(ctx context.Context, title, text string) error {
	address := sessionBus()
	if address == "" {
		return errors.New("there is no session bus")
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// The body is markup: https://specifications.freedesktop.org/notification-spec/latest/markup.html
	return conn.Object(server, path).CallWithContext(ctx, server+".Notify", 0, "Broker", uint32(0), "", title,
		html.EscapeString(text), []string{}, map[string]dbus.Variant{}, byServer).Err
}

// sessionBus returns the address of the session bus, or "". It starts no bus, which the library would do.
func sessionBus() string {
	const variable = "DBUS_SESSION_BUS_ADDRESS"
	for _, address := range []string{os.Getenv(variable), "unix:path=" + os.Getenv("XDG_RUNTIME_DIR") + "/bus"} {
		if environ.Usable(variable, address) {
			return address
		}
	}
	return ""
}
