//go:build clients

package e2e

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestClientsRecording plays the first minute on a real terminal in a fresh home, and compares the result with the
// pictures in docs. `make recording` writes them. Times and ids are normalized, and the pace is fixed here, so a
// picture changes only if a program's output does.
func TestClientsRecording(t *testing.T) {
	shown := playOnTerminal(t, firstMinute)
	for file, colors := range pictures {
		now := draw(t, shown, colors)
		if *update {
			must(t, os.WriteFile(file, []byte(now), 0o644))
			continue
		}
		was, err := os.ReadFile(file)
		must(t, err)
		if now == string(was) {
			continue
		}
		before, err := linesOf(was)
		must(t, err)
		after, err := linesOf([]byte(now))
		must(t, err)
		i := 0
		for i < len(before) && i < len(after) && before[i] == after[i] {
			i++
		}
		t.Errorf("%s is stale: run make recording. From its line %d on it shows\n%s\nbut the terminal now shows\n%s",
			file, i+1, strings.Join(before[i:], "\n"), strings.Join(after[i:], "\n"))
	}
}

// The size of a picture in units and in characters, and the times of the animation in seconds.
const (
	columns, rows         = 100, 28
	charWidth, lineHeight = 8.4, 20.0
	margin                = 16.0
	perLine, perKey       = 0.04, 0.045
	beforeTyping, toRead  = 0.9, 1.6 // toRead is the time to read an answer before the next prompt
	atTheEnd              = 8.0
)

// draw makes an SVG of what a terminal showed, as an animation that loops. For readers who prefer no motion, and
// in programs without animation, it shows the end.
func draw(t *testing.T, shown string, colors palette) string {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
	type moment struct{ appears, types, typed float64 }
	moments, typed := make([]moment, len(lines)), make([]string, len(lines))
	now, next := 0.0, 0
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(line, prompt) {
			now += toRead
		}
		moments[i] = moment{now, now, now}
		now += perLine
		if next == len(firstMinute) {
			continue
		}
		s := firstMinute[next] // a line has one scene at most
		s.types = strings.Replace(s.types, "CODE", "123456", 1)
		switch {
		case s.unseen && line == strings.TrimSpace(s.after):
			now += beforeTyping + perKey*float64(len(s.types))
		case !s.unseen && strings.HasSuffix(line, s.after+s.types):
			now += beforeTyping
			if s.after != prompt {
				now += toRead // the reader needs time before the answer
			}
			typed[i], moments[i].types = s.types, now
			now += perKey * float64(len(s.types))
			moments[i].typed = now
		default:
			continue
		}
		next++
	}
	if next != len(firstMinute) {
		t.Fatalf("the terminal did not show %q:\n%s", firstMinute[next].types, shown)
	}
	length := now + atTheEnd
	at := func(seconds float64) string { return fmt.Sprintf("%.2f%%", 100*seconds/length) }

	var style, body, scroll strings.Builder
	for i, line := range lines {
		m := moments[i]
		fmt.Fprintf(&style, "@keyframes a%d{0%%{opacity:0}%s{opacity:1}}\n", i, at(m.appears))
		if i >= rows {
			fmt.Fprintf(&scroll, "%s{transform:translateY(%gpx)}", at(m.appears), -lineHeight*float64(i-rows+1))
		}
		line = strings.TrimPrefix(line, "\x1e")
		width := utf8.RuneCountInString(line)
		if width > columns {
			t.Fatalf("a line is longer than %d characters: %s", columns, line)
		}
		if line == "" {
			continue
		}
		before, class := strings.TrimSuffix(line, typed[i]), ""
		if before == "$ " {
			class = ` class="q"`
		}
		fmt.Fprintf(&body, `<g style="animation-name:a%d"><text y="%g" textLength="%.1f"><tspan%s>%s</tspan>`,
			i, lineHeight*(float64(i)+0.75), charWidth*float64(width), class, escaped(before))
		if typed[i] != "" {
			fmt.Fprintf(&body, `<tspan class="t">%s</tspan>`, escaped(typed[i]))
		}
		body.WriteString("</text>")
		if n := utf8.RuneCountInString(typed[i]); n > 0 {
			// A cover with the cursor at its left edge moves away from the typed text.
			w := charWidth * float64(n)
			fmt.Fprintf(&style, "@keyframes t%d{0%%,%s{visibility:visible;transform:none;animation-timing-function:steps(%d)}"+
				"%s,to{visibility:hidden;transform:translateX(%.1fpx)}}\n", i, at(m.types), n, at(m.typed), w)
			fmt.Fprintf(&body, `<g class="c" style="animation-name:t%d">`+
				`<rect x="%.1f" y="%g" width="%.1f" height="%g" class="b"/><rect x="%.1f" y="%g" width="%.1f" height="%g"/></g>`,
				i, charWidth*float64(width-n), lineHeight*float64(i), w+charWidth, lineHeight,
				charWidth*float64(width-n), lineHeight*float64(i)+2, charWidth, lineHeight-3)
		}
		body.WriteString("</g>\n")
	}
	end := lineHeight * float64(max(0, len(lines)-rows))
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]g" height="%[2]g" viewBox="0 0 %[1]g %[2]g"
 role="img" aria-labelledby="title">
<!-- Made by "make recording" from a real run. Do not edit. -->
<title id="title">The first minute with Broker, on a terminal</title>
<style>
text,.c{fill:%[3]s;font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.q{fill:%[4]s}.t{fill:%[5]s;font-weight:600}.b{fill:%[6]s}.c{visibility:hidden}.s{transform:translateY(%[7]gpx)}
@media (prefers-reduced-motion:no-preference){.s,.s g{animation:s %.2[8]fs step-end infinite}}
@keyframes s{0%%{transform:none}%[9]s}
%[10]s</style>
<rect width="100%%" height="100%%" rx="8" class="b"/>
<svg x="%[11]g" y="%[11]g" width="%[12]g" height="%[13]g" xml:space="preserve">
<g class="s">
%[14]s</g>
</svg>
</svg>
`, columns*charWidth+2*margin, rows*lineHeight+2*margin, colors.text, colors.quiet, colors.typed, colors.back,
		-end, length, scroll.String(), style.String(), margin, columns*charWidth, rows*lineHeight, body.String())
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}
