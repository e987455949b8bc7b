package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// helpColumns is the width of help, which every terminal has.
	helpColumns = 80
	// flagColumns is where the text of a flag begins; after a longer name it begins on the next line.
	flagColumns = 26
)

// printUsage writes how a command is used, as cobra does, but no wider than helpColumns.
func printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " <command>"
	}
	b.WriteString("Usage:\n  " + line + "\n")
	if cmd.HasExample() {
		b.WriteString("\nExamples:\n" + cmd.Example + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-11s %s\n", c.Name(), c.Short)
			}
		}
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\nFlags:\n")
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(flagUsage(f)) })
	}
	if cmd.HasHelpSubCommands() {
		b.WriteString("\nMore help:\n")
		for _, c := range cmd.Commands() {
			if c.IsAdditionalHelpTopicCommand() {
				fmt.Fprintf(&b, "  %s help %s   %s\n", cmd.CommandPath(), c.Name(), c.Short)
			}
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n%q tells more about a command.\n", cmd.CommandPath()+" <command> --help")
	}
	_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
	return err
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
