package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// gap is what separates columns.
const gap = "  "

// Table is rows of cells under a header. Cells are escaped when it is written.
type Table struct {
	// Header names the columns. One that begins with ">" is aligned to the right.
	Header []string
	rows   [][]string
}

// Row adds a row of as many cells as the header has.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = Escape(c)
	}
	t.rows = append(t.rows, row)
}

// Write writes the table, its columns as wide as they need to be.
func (t *Table) Write(w io.Writer, style Style) error {
	header := make([]string, len(t.Header))
	widths := make([]int, len(t.Header))
	for i, name := range t.Header {
		header[i] = strings.TrimPrefix(name, ">")
		widths[i] = utf8.RuneCountInString(header[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	if _, err := fmt.Fprintln(w, style.Bold(t.line(header, widths))); err != nil {
		return err
	}
	for _, row := range t.rows {
		if _, err := fmt.Fprintln(w, t.line(row, widths)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) line(cells []string, widths []int) string {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 {
			b.WriteString(gap)
		}
		fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
		if strings.HasPrefix(t.Header[i], ">") {
			b.WriteString(fill + c)
		} else {
			b.WriteString(c + fill)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
