package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// helpColumns is the width of help, which every terminal has.
	helpColumns = 80
	// flagColumns is where the text of a flag begins; after a longer name it begins on the next line.
	flagColumns = 26
)

// usageTemplate is how a command is used, as cobra writes it, but no wider than helpColumns.
var usageTemplate = template.Must(template.New("usage").Funcs(template.FuncMap{"flags": flagUsages}).Parse(`Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} <command>{{else}}{{.UseLine}}{{end}}
{{if .HasExample}}
Examples:
{{.Example}}
{{end}}{{if .HasAvailableSubCommands}}
Commands:
{{range .Commands}}{{if .IsAvailableCommand}}{{printf "  %-11s %s\n" .Name .Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{flags .}}{{end}}{{if .HasHelpSubCommands}}
More help:
{{range .Commands}}{{if .IsAdditionalHelpTopicCommand}}  {{$.CommandPath}} help {{.Name}}   {{.Short}}
{{end}}{{end}}{{end}}{{if .HasAvailableSubCommands}}
"{{.CommandPath}} <command> --help" tells more about a command.
{{end}}`))

func printUsage(cmd *cobra.Command) error { return usageTemplate.Execute(cmd.OutOrStderr(), cmd) }

func flagUsages(cmd *cobra.Command) string {
	var b strings.Builder
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(flagUsage(f)) })
	return b.String()
}

// flagUsage is all about one flag.
func flagUsage(f *pflag.Flag) string {
	if f.Hidden {
		return ""
	}
	value, usage := pflag.UnquoteUsage(f)
	name := "      --" + f.Name
	if f.Shorthand != "" {
		name = "  -" + f.Shorthand + ", --" + f.Name
	}
	if value != "" {
		name += " " + value
	}
	switch f.DefValue {
	case "", "false", "0s", "[]":
	default:
		usage += " (default " + f.DefValue + ")"
	}
	var b strings.Builder
	for line := range wrap(usage, helpColumns-flagColumns) {
		switch {
		case name != "" && len(name) < flagColumns-1:
			fmt.Fprintf(&b, "%-*s", flagColumns, name)
		case name != "":
			b.WriteString(name + "\n" + strings.Repeat(" ", flagColumns))
		default:
			b.WriteString(strings.Repeat(" ", flagColumns))
		}
		name = ""
		b.WriteString(line + "\n")
	}
	return b.String()
}

// wrap yields the lines of text, broken at spaces to fit.
func wrap(text string, columns int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		line := ""
		for word := range strings.FieldsSeq(text) {
			switch {
			case line == "":
				line = word
			case len(line)+1+len(word) <= columns:
				line += " " + word
			default:
				if !yield(line) {
					return
				}
				line = word
			}
		}
		yield(line)
	}
}
