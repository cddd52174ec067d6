package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/boombuler/barcode/qr"

	"broker/internal/fault"
	"broker/internal/secret"
)

const (
	// quietZone is the white border that a QR code needs, in modules (ISO/IEC 18004); leastQuiet is what readers
	// can do with.
	quietZone  = 4
	leastQuiet = 2
	// onWhite is black on white by numbers that no color scheme changes, so that a dark terminal shows no negative.
	onWhite = "\x1b[38;5;16;48;5;231m"
	asUsual = "\x1b[0m"
	// What is shown on the alternate screen is not in the scrollback afterwards.
	alternate = "\x1b[?1049h\x1b[H\x1b[2J"
	primary   = "\x1b[H\x1b[?1049l"
	// A terminal without an alternate screen, such as tmux with alternate-screen off, saves a screen that is erased as a
	// whole in its scrollback. So each line is erased by itself.
	eraseLine = "\x1b[2K\x1b[B"
	manyRows  = 200 // of a terminal that does not tell its height
)

// showSeed shows a new seed on the terminal until the person presses Enter: as a QR code, or as text if the terminal
// is too small or too simple for that. It is in no argument, pipe or file, and the screen is cleared afterwards.
func (p *program) showSeed(ctx context.Context, account string, seed secret.String) error {
	t, err := p.openTerminal()
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	dropKeys() // a key that was typed ahead must not take the code away
	uri, err := otpauth(account, seed)
	if err != nil {
		return err
	}
	if !obeys(t) {
		return t.showText(ctx, "This terminal cannot show a QR code. Clear it afterwards.", account, seed)
	}
	if _, err := io.WriteString(t.out, alternate); err != nil {
		return fault.New(fault.Failed, "write to the terminal: %w", err)
	}
	defer func() {
		rows := cmp.Or(screenRows(t.out), manyRows)
		_, _ = io.WriteString(t.out, "\x1b[H"+strings.Repeat(eraseLine, rows)+primary)
	}()
	wide, high := columns(t), cmp.Or(screenRows(t.out), uri.rows(quietZone)+1)
	for _, quiet := range []int{quietZone, leastQuiet} {
		if uri.columns(quiet) <= wide && uri.rows(quiet) < high { // a row is for the prompt
			_, _ = io.WriteString(t.out, uri.draw(quiet))
			_, err := t.line(ctx, "Scan it with your phone, then press Enter: ")
			return err
		}
	}
	why := fmt.Sprintf("This terminal is too small for the QR code: it has %d columns and %d rows, and the code needs %d and %d.",
		wide, high, uri.columns(leastQuiet), uri.rows(leastQuiet)+1)
	return t.showText(ctx, why, account, seed)
}

// showText shows a seed as text, in groups of four letters. Apps ignore the blanks.
func (t terminal) showText(ctx context.Context, why, account string, seed secret.String) error {
	var groups []string
	for text := seed.Reveal(); text != ""; {
		n := min(4, len(text))
		groups, text = append(groups, text[:n]), text[n:]
	}
	text := fmt.Sprintf("%s\nAdd this to the app on your phone, as a time-based account:\n\naccount  AWS:%s\nseed     %s\n",
		why, account, strings.Join(groups, " "))
	_, _ = fmt.Fprintln(t, flow(text, columns(t)))
	_, err := t.line(ctx, "Press Enter when your phone has it: ")
	return err
}

// qrCode is a QR code of modules, dark or light.
type qrCode struct {
	size int
	dark func(x, y int) bool
}

// otpauth returns the QR code that an authenticator app reads. The label is that of AWS's own code, with its issuer:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_VirtualMFADevice.html
func otpauth(account string, seed secret.String) (qrCode, error) {
	code, err := qr.Encode("otpauth://totp/AWS:"+url.PathEscape(account)+"?secret="+seed.Reveal()+"&issuer=AWS", qr.L, qr.Unicode)
	if err != nil {
		return qrCode{}, fault.New(fault.Internal, "the seed does not fit into a QR code")
	}
	return qrCode{code.Bounds().Dx(), func(x, y int) bool {
		r, _, _, _ := code.At(x, y).RGBA()
		return r == 0
	}}, nil
}

func (q qrCode) columns(quiet int) int { return q.size + 2*quiet }

func (q qrCode) rows(quiet int) int { return (q.columns(quiet) + 1) / 2 }

// draw returns the code as lines of half blocks, each a column of two modules.
func (q qrCode) draw(quiet int) string {
	dark := func(x, y int) int {
		x, y = x-quiet, y-quiet
		if x >= 0 && y >= 0 && x < q.size && y < q.size && q.dark(x, y) {
			return 1
		}
		return 0
	}
	var b strings.Builder
	for y := range q.rows(quiet) {
		b.WriteString(onWhite)
		for x := range q.columns(quiet) {
			b.WriteString([]string{" ", "▀", "▄", "█"}[dark(x, 2*y)+2*dark(x, 2*y+1)])
		}
		b.WriteString(asUsual + "\n")
	}
	return b.String()
}
