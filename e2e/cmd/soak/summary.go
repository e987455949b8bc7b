package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/terminal"
)

// The files of a report.
const (
	summaryFile = "summary.json"
	reportFile  = "report.html"
)

// summary is the whole of a soak.
type summary struct {
	Began   time.Time `json:"began"`
	Took    string    `json:"took"`
	Machine string    `json:"machine"`
	Stages  []outcome `json:"stages"`
}

func machine() string {
	return fmt.Sprintf("%s, %s/%s, %d CPUs", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
}

// passed reports whether all stages did. A soak of nothing has not.
func (s summary) passed() bool {
	for _, o := range s.Stages {
		if o.Verdict != passed {
			return false
		}
	}
	return len(s.Stages) > 0
}

// print writes the summary for people.
func (s summary) print(w io.Writer, style terminal.Style, utf8 bool) error {
	for _, o := range s.Stages {
		if o.text == nil {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", style.Bold(o.Stage))
		if err := o.text(w, style, utf8); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	table := terminal.Table{Header: []string{"TEST", "RESULT", ">TOOK", "FIGURES"}}
	for _, o := range s.Stages {
		table.Row(o.Stage, string(o.Verdict), o.Took, o.Facts)
	}
	if err := table.Write(w, style); err != nil {
		return err
	}
	for _, o := range s.Stages {
		if _, err := io.WriteString(w, o.problemLines(style)); err != nil {
			return err
		}
	}
	return nil
}

// problemLines has a line for each problem.
func (o outcome) problemLines(style terminal.Style) string {
	var b strings.Builder
	for _, p := range o.Problems {
		fmt.Fprintf(&b, "%s %s: %s\n", style.Error("problem:"), o.Stage, terminal.EscapeLines(p))
	}
	return b.String()
}

// save writes the summary's files into a folder.
func (s summary) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	html, err := os.Create(filepath.Join(dir, reportFile))
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	err = s.html(html, dir)
	return errors.Join(os.WriteFile(filepath.Join(dir, summaryFile), append(data, '\n'), 0o600), err, html.Close())
}

// html writes one page that holds all pictures, so that it can be sent.
func (s summary) html(w io.Writer, dir string) error {
	page := template.Must(template.New("report").Funcs(template.FuncMap{
		"picture": func(name string) (template.HTML, error) {
			svg, err := os.ReadFile(filepath.Join(dir, name))
			return template.HTML(svg), err //nolint:gosec // our own drawing: its texts are escaped
		},
	}).Parse(reportTemplate))
	if err := page.Execute(w, s); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

const reportTemplate = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Waxseal soak, {{.Began.Format "2006-01-02 15:04"}}</title>
<style>
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; color: #111827; background: #f3f4f6; margin: 0 auto; max-width: 1010px; padding: 24px }
h1 { font-size: 24px; margin: 0 } h2 { font-size: 18px; margin: 32px 0 8px }
p { margin: 4px 0 16px; color: #4b5563 }
table { border-collapse: collapse; background: #fff; width: 100% } th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid #e5e7eb; vertical-align: top }
th { font-size: 12px; color: #6b7280 } .passed { color: #00704f; font-weight: 600 } .bad { color: #b34400; font-weight: 600 }
svg { max-width: 100%; height: auto; margin: 0 0 16px; border: 1px solid #e5e7eb }
li { margin: 2px 0; white-space: pre-wrap; overflow-wrap: anywhere }
</style>
<h1>Waxseal soak</h1>
<p>{{.Began.Format "2006-01-02 15:04:05 MST"}}, {{.Took}} in all; {{.Machine}}</p>
<table>
<tr><th>Test<th>Result<th>Took<th>Figures</tr>
{{range .Stages}}<tr><td>{{.Stage}}<td class="{{if eq .Verdict "passed"}}passed{{else}}bad{{end}}">{{.Verdict}}<td>{{.Took}}<td>{{.Facts}}</tr>
{{end}}</table>
{{range .Stages}}{{if or .Problems .Pictures .Files}}
<h2>{{.Stage}}</h2>
{{if .Problems}}<ul>{{range .Problems}}<li class="bad">{{.}}</li>{{end}}</ul>{{end}}
{{range .Pictures}}{{picture .}}
{{end}}{{if .Files}}<p>Figures: {{range .Files}}<a href="{{.}}">{{.}}</a> {{end}}</p>{{end}}
{{end}}{{end}}
</html>
`
