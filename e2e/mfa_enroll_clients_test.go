//go:build clients

package e2e

import (
	"image"
	"image/color"
	paint "image/draw"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// withoutDevice is a house whose source has no MFA device in the registry. AWS knows the user's device "paul".
func withoutDevice(t *testing.T) *house {
	t.Helper()
	if _, err := exec.LookPath("zbarimg"); err != nil {
		missing(t, "zbarimg")
	}
	h := seedless(t, "")
	h.ok(t, "broker", "mfa", "remove", "security", "--yes")
	return h
}

// enrolls runs a command on a terminal of this size.
func (h *house) enrolls(t *testing.T, columns, rows uint16, args ...string) *seat {
	t.Helper()
	s := &seat{t: t, cmd: h.command("env", append([]string{"TERM=xterm-256color", filepath.Join(h.bin, "broker")}, args...)...),
		columns: columns, rows: rows}
	s.start()
	return s
}

// photo is what a phone sees of a terminal: 8 × 16 pixels for each cell. It knows the escape sequences of the QR code.
func photo(shown string, background color.Gray) image.Image {
	const wide, high = 8, 16
	if _, cleared, is := strings.Cut(shown, "\x1b[?1049h"); is {
		shown = cleared
	}
	lines := strings.Split(strings.ReplaceAll(shown, "\r", ""), "\n")
	picture := image.NewGray(image.Rect(0, 0, 100*wide, len(lines)*high))
	paint.Draw(picture, picture.Bounds(), image.NewUniform(background), image.Point{}, paint.Src)
	for y, line := range lines {
		x, code := 0, false
		for line != "" {
			if strings.HasPrefix(line, "\x1b") {
				end := strings.IndexAny(line, "mhlJH")
				code = line[:end+1] == "\x1b[38;5;16;48;5;231m"
				line = line[end+1:]
				continue
			}
			glyph := []rune(line)[0]
			line = line[len(string(glyph)):]
			upper, lower := glyph == '▀' || glyph == '█', glyph == '▄' || glyph == '█'
			for i, dark := range []bool{upper, lower} {
				half := image.Rect(x*wide, y*high+i*high/2, (x+1)*wide, y*high+(i+1)*high/2)
				switch {
				case code && dark:
					paint.Draw(picture, half, image.Black, image.Point{}, paint.Src)
				case code:
					paint.Draw(picture, half, image.White, image.Point{}, paint.Src)
				}
			}
			x++
		}
	}
	return picture
}

// scan reads the QR code in a picture with zbarimg.
func scan(t *testing.T, picture image.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "photo.png")
	f, err := os.Create(path)
	must(t, err)
	must(t, png.Encode(f, picture))
	must(t, f.Close())
	out, err := exec.Command("zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", path).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// TestClientsQRCode enrolls a phone on a terminal of 60 columns. zbarimg reads the seed from the screen.
func TestClientsQRCode(t *testing.T) {
	t.Parallel()
	h := withoutDevice(t)
	must(t, h.sim.fault(`{"kind": "delay", "action": "CreateVirtualMFADevice", "delay_seconds": 2}`))
	s := h.enrolls(t, 60, 24, "mfa", "enroll", "security", "--no-store-seed")
	s.types("") // typed ahead, it does not take the code away
	s.waits("Scan it with your phone, then press Enter: ")
	screen := s.shown()
	for line := range strings.Lines(screen) {
		if n := strings.Count(line, "█") + strings.Count(line, "▀") + strings.Count(line, "▄") + strings.Count(line, " "); n > 60 {
			t.Errorf("a line of %d columns", n)
		}
	}
	uri := ""
	for name, background := range map[string]color.Gray{"dark": {0}, "light": {255}, "gray": {128}} {
		if uri = scan(t, photo(screen, background)); uri == "" {
			t.Fatalf("on a %s terminal the code cannot be read", name)
		}
	}
	if other := strings.ReplaceAll(screen, "48;5;231", "48;5;16"); scan(t, photo(other, color.Gray{0})) != "" {
		t.Fatal("a code without white is read: the test proves nothing")
	}
	parsed, err := url.Parse(uri)
	must(t, err)
	if parsed.Scheme != "otpauth" || parsed.Host != "totp" || parsed.Path != "/AWS:paul@111122223333" ||
		parsed.Query().Get("issuer") != "AWS" {
		t.Fatalf("the code says %q", uri)
	}
	phone := parsed.Query().Get("secret")
	code := func() string {
		c, err := totp.GenerateCode(phone, time.Now())
		must(t, err)
		return c
	}
	s.types("")
	s.waits("Code that the new device shows now: ")
	if after := s.shown()[len(screen):]; !strings.Contains(after, "\x1b[2K\x1b[B\x1b[H\x1b[?1049l") {
		t.Error("the seed stays on the screen")
	}
	first := code()
	s.types(first)
	s.waits("Next code: ")
	second := code()
	s.types(second)
	s.waits("MFA code for security")
	for code() == second {
		time.Sleep(100 * time.Millisecond)
	}
	s.types(code())
	s.waits("logged in until")
	if r := s.ends(); r.code != 0 {
		t.Fatalf("exit code %d; the terminal showed:\n%s", r.code, s.shown())
	}
	if strings.Contains(s.shown(), "exactly 6 digits") {
		t.Error("a key that was typed ahead took the code away")
	}
	if strings.Contains(s.shown(), phone) {
		t.Error("the terminal showed the seed as text too")
	}
	if got := h.ok(t, "broker", "mfa", "remove", "security", "--seed-only"); got != "security has no stored seed\n" {
		t.Errorf("the keyring: %s", got)
	}
	data, err := os.ReadFile(h.registry())
	must(t, err)
	if !strings.Contains(string(data), "mfa_serial = arn:aws:iam::111122223333:mfa/paul-2\n") || strings.Contains(string(data), "mfa_seed") {
		t.Errorf("the registry:\n%s", data)
	}
}

// TestClientsNoScrollback shows a seed in a tmux that has no alternate screen. After Ctrl-C nothing of it is in the
// scrollback.
func TestClientsNoScrollback(t *testing.T) {
	t.Parallel()
	h := withoutDevice(t)
	m := h.tmux(t)
	m.run("set-option", "-g", "alternate-screen", "off")
	m.types(filepath.Join(h.bin, "broker") + " mfa enroll security --no-store-seed")
	m.waits("then press Enter:")
	if !strings.Contains(m.screen(), "▀") {
		t.Fatalf("no code is shown:\n%s", m.screen())
	}
	m.run("send-keys", "C-c")
	m.waits("to go on:")
	if all := m.run("capture-pane", "-p", "-S", "-"); strings.ContainsAny(all, "▀▄█") {
		t.Errorf("the scrollback has the code:\n%s", all)
	}
}

// TestClientsQRCodeSizes checks the form of a seed on terminals of all sizes. Each try is ended by Ctrl-C, and the
// next one removes its device.
func TestClientsQRCodeSizes(t *testing.T) {
	t.Parallel()
	h := withoutDevice(t)
	for _, size := range []struct {
		columns, rows uint16
		code          bool
	}{{80, 40, true}, {49, 26, true}, {45, 24, true}, {44, 24, false}, {80, 23, false}, {20, 10, false}} {
		s := h.enrolls(t, size.columns, size.rows, "mfa", "enroll", "security")
		if size.code {
			s.waits("then press Enter: ")
		} else {
			s.waits("Press Enter when")
		}
		if uri := scan(t, photo(s.shown(), color.Gray{0})); size.code == (uri == "") {
			t.Errorf("%d × %d: the code says %q", size.columns, size.rows, uri)
		}
		if !size.code && !strings.Contains(s.shown(), "too small for the QR code") && size.columns > 40 {
			t.Errorf("%d × %d: no reason is given:\n%s", size.columns, size.rows, s.shown())
		}
		s.keys("\x03")
		s.waits("broker: interrupted")
		if r := s.ends(); r.code != 130 {
			t.Errorf("exit code %d", r.code)
		}
		s.asItWas()
	}
	h.counted(t, "CreateVirtualMFADevice", 6)
	h.counted(t, "DeleteVirtualMFADevice", 5)
}
