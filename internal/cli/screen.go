package cli

import (
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"

	"broker/internal/fault"
)

// terminalColumns is the width of a terminal that does not report one. proseColumns is the widest line of
// sentences.
const (
	terminalColumns = 80
	proseColumns    = 80
	// leastColumns is the narrowest width of a table column. Below it, each row becomes a block of lines. A column
	// of at most shortColumns, such as an account number, is folded last.
	leastColumns = 6
	shortColumns = 12
)

// columns returns the width of the terminal behind a writer. Without a terminal it is 0, and text is not wrapped.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if t, is := w.(terminal); is {
		f, ok = t.out, true
	}
	if !ok {
		return 0
	}
	wide, _, err := term.GetSize(int(f.Fd()))
	switch {
	case err != nil:
		return 0
	case wide <= 0:
		return terminalColumns
	}
	return wide
}

// isTerminal reports whether an input or output is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// screenRows returns the height of the terminal behind a writer, or 0 if it is unknown.
func screenRows(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if _, high, err := term.GetSize(int(f.Fd())); err == nil {
			return high
		}
	}
	return 0
}

// obeys reports whether a writer is a terminal that supports cursor movements.
func obeys(w io.Writer) bool {
	name := os.Getenv("TERM")
	return columns(w) > 0 && name != "dumb" && (name != "" || runtime.GOOS == "windows")
}

// flow breaks each line at its blanks, so that no line is wider than width. If the line begins with a label, which
// ends with two blanks, the following lines are indented like the text after the label. A word that is wider than
// width stays whole, because it may be a path or a command to copy. With width 0 the text is unchanged.
func flow(text string, width int) string {
	if width <= 0 {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if uniseg.StringWidth(line) <= width {
			continue
		}
		rest := strings.TrimLeft(line, " ")
		first := len(line) - len(rest)
		indent := first + 2
		head := line[:first]
		label, behind, labeled := strings.Cut(rest, "  ")
		if labeled && first+uniseg.StringWidth(label) < width/2 {
			rest = strings.TrimLeft(behind, " ")
			head = line[:len(line)-len(rest)]
			word, _, _ := strings.Cut(rest, " ")
			if column := uniseg.StringWidth(head); column+uniseg.StringWidth(word) <= width {
				indent = column
			} else { // on its own line the word may fit, and stays whole
				head = strings.TrimRight(head, " ") + "\n" + strings.Repeat(" ", indent)
			}
		}
		b := &strings.Builder{}
		b.WriteString(head)
		indent = min(indent, width/2)
		at, start := uniseg.StringWidth(head[strings.LastIndexByte(head, '\n')+1:]), true
		for _, word := range strings.Fields(rest) {
			wide := uniseg.StringWidth(word)
			switch {
			case !start && at+1+wide > width:
				b.WriteString("\n" + strings.Repeat(" ", indent))
				at = indent
			case !start:
				b.WriteByte(' ')
				at++
			}
			b.WriteString(word)
			at, start = at+wide, false
		}
		lines[i] = b.String()
	}
	return strings.Join(lines, "\n")
}

// fold breaks a cell into lines of at most width columns: at blanks, else after a mark such as "-" within a word,
// else anywhere.
func fold(text string, width int) (lines []string) {
	if uniseg.StringWidth(text) <= width {
		return []string{text}
	}
	for _, line := range strings.Split(flow(text, width), "\n") {
		lines = append(lines, cutAtMarks(strings.TrimLeft(line, " "), width)...)
	}
	return lines
}

// cutAtMarks is cut, but it cuts after the last mark of a piece if that mark is in the second half of the piece.
func cutAtMarks(line string, width int) (pieces []string) {
	for {
		piece := cut(line, width)[0]
		if piece == line {
			return append(pieces, line)
		}
		if at := strings.LastIndexAny(piece, "-_./:,") + 1; at > len(piece)/2 {
			piece = piece[:at]
		}
		pieces, line = append(pieces, piece), line[len(piece):]
	}
}

// cut breaks a line as a terminal of this width does.
func cut(line string, width int) (pieces []string) {
	at, start := 0, 0
	for i := 0; i < len(line); {
		cluster, _, wide, _ := uniseg.FirstGraphemeClusterInString(line[i:], -1)
		if at+wide > width && i > start {
			pieces = append(pieces, line[start:i])
			at, start = 0, i
		}
		at += wide
		i += len(cluster)
	}
	return append(pieces, line[start:])
}

// A table has rows of cells below a header. The header may be empty. On a terminal the table fits the width: cells
// are folded, or each row becomes a block of lines. Elsewhere each row is one line.
type table struct {
	w     io.Writer
	width int // of the terminal; 0 without a terminal
	rows  [][]string
	// optional is how many of the last columns may be left out, one after the other, if the table is too wide.
	optional int
	// least is the width that each column has at least. After print, it is the width that the column had.
	least []int
}

// table returns a table on stdout with this header.
func (p *program) table(header ...string) *table {
	return newTable(p.text, columns(p.stdout), header...)
}

func newTable(w io.Writer, width int, header ...string) *table {
	t := &table{w: w, width: width}
	t.rows = append(t.rows, header)
	return t
}

// row adds a row. An empty cell is shown as "-".
func (t *table) row(cells ...string) {
	line := make([]string, len(cells))
	for i, cell := range cells {
		line[i] = dash(cell)
	}
	t.rows = append(t.rows, line)
}

// print writes the table.
func (t *table) print() error {
	widths := slices.Clone(t.least)
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	for t.width > 0 && t.optional > 0 && sum(widths)+2*(len(widths)-1) > t.width {
		widths = widths[:len(widths)-1]
		for i, row := range t.rows {
			t.rows[i] = row[:min(len(row), len(widths))]
		}
		t.optional--
	}
	if t.width > 0 && !shrink(widths, t.width) {
		return t.blocks()
	}
	t.least = widths
	var b strings.Builder
	for _, row := range t.rows {
		if len(row) == 0 {
			continue
		}
		cells, high := make([][]string, len(row)), 1
		for i, cell := range row {
			cells[i] = fold(cell, widths[i])
			high = max(high, len(cells[i]))
		}
		for y := range high {
			var line strings.Builder
			for i, width := range widths[:len(row)] {
				cell := ""
				if y < len(cells[i]) {
					cell = cells[i][y]
				}
				line.WriteString(cell + strings.Repeat(" ", width-uniseg.StringWidth(cell)+2))
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
	}
	return t.write(b.String())
}

func (t *table) write(text string) error {
	if _, err := io.WriteString(t.w, text); err != nil {
		return fault.New(fault.Failed, "write the table: %w", err)
	}
	return nil
}

func sum(widths []int) (total int) {
	for _, w := range widths {
		total += w
	}
	return total
}

// shrink makes the widest columns narrower until the table fits: first long columns other than the name, then all
// columns. It reports false if that is not enough.
func shrink(widths []int, width int) bool {
	total := sum(widths) + 2*(len(widths)-1)
	natural := slices.Clone(widths)
	for _, all := range []bool{false, true} {
		for total > width {
			widest := -1
			for i, w := range widths {
				may := w > leastColumns && (all || i > 0 && natural[i] > shortColumns)
				if may && (widest < 0 || w > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
			total--
		}
	}
	return total <= width
}

// blocks writes each row as lines of header and cell. Without a header the cells are below the first cell.
func (t *table) blocks() error {
	var b strings.Builder
	head, label := t.rows[0], 2
	for _, h := range head {
		label = max(label, uniseg.StringWidth(h)+2)
	}
	below := len(head) > 0 && t.width < 2*label // a cell is on lines of its own
	for n, row := range t.rows[1:] {
		if n > 0 && len(head) > 0 {
			b.WriteString("\n")
		}
		for i, cell := range row {
			first := ""
			if i < len(head) {
				first = head[i]
			}
			indent := label
			switch {
			case below:
				b.WriteString(first + "\n")
				first, indent = "", 2
			case len(head) == 0 && i == 0:
				indent = 0
			}
			for _, line := range fold(cell, max(t.width-indent, leastColumns/2)) {
				b.WriteString(first + strings.Repeat(" ", indent-uniseg.StringWidth(first)) + line + "\n")
				first = ""
			}
		}
	}
	return t.write(b.String())
}

// printTable writes a table, and below it the notes, which would make it too wide.
func (p *program) printTable(t *table, notes []string) error {
	if err := t.print(); err != nil {
		return err
	}
	if len(notes) > 0 {
		p.say("")
	}
	for _, note := range notes {
		p.say("note: %s", fault.Line(note))
	}
	return nil
}
