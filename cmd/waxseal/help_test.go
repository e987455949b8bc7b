package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands returns every command that a user can see, and the topics.
func commands(t *testing.T) []*cobra.Command {
	t.Helper()
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		all = append(all, c)
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				walk(sub)
			}
		}
	}
	walk((&app{lookup: os.LookupEnv}).rootCommand())
	if len(all) < 12 {
		t.Fatalf("only %d commands", len(all))
	}
	return all
}

// Help is what testdata/help says; run with -update after a change and look at it.
func TestHelp(t *testing.T) {
	for _, c := range commands(t) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			a := &app{in: strings.NewReader(""), out: &out, err: &errs, lookup: os.LookupEnv}
			args := append(strings.Fields(c.CommandPath())[1:], "--help")
			if c.IsAdditionalHelpTopicCommand() {
				args = append([]string{"help"}, args[:len(args)-1]...)
			}
			if code := a.main(t.Context(), args); code != exitOK || errs.Len() > 0 {
				t.Fatalf("exit code %d, standard error %q", code, errs.String())
			}
			got := out.String()
			golden := filepath.Join("testdata", "help", name+".txt")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
			if strings.HasPrefix(c.CommandPath(), "waxseal completion ") {
				return // cobra's own text
			}
			for line := range strings.Lines(got) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > helpColumns {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			if c.Runnable() && !c.HasSubCommands() && c.Example == "" {
				t.Error("no example")
			}
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("short text: %q", c.Short)
			}
		})
	}
}

// docs/cli.md names every command and every flag, and no flag that there is not.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	flags := map[string]bool{"help": true}
	for _, c := range commands(t) {
		name := strings.TrimPrefix(c.CommandPath(), "waxseal ")
		if c.IsAdditionalHelpTopicCommand() {
			name = "help " + name
		}
		if c.HasParent() && !strings.Contains(text, "waxseal "+name) && !strings.Contains(text, "`"+c.Name()+"`") {
			t.Errorf("%s is not described", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			flags[f.Name] = true
			if f.Name != "help" && !strings.Contains(text, "`--"+f.Name+"`") {
				t.Errorf("%s --%s is not described", c.CommandPath(), f.Name)
			}
		})
	}
	for _, m := range regexp.MustCompile("`--([a-z-]+)`").FindAllStringSubmatch(text, -1) {
		if !flags[m[1]] {
			t.Errorf("there is no flag --%s", m[1])
		}
	}
	for _, code := range []string{"0", "1", "2", "3", "4", "130"} {
		topic := exitCodesTopic().Long
		if !strings.Contains(text, "\n| "+code+" | ") || !strings.Contains(topic, "\n  "+code+" ") {
			t.Errorf("exit code %s is not described", code)
		}
	}
}
