package main

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
)

// Set by the linker in a build without version control: -ldflags "-X main.version=v1.2.3 -X main.commit=…".
var version, commit string

// formatVersion is the version of the envelope format that this program writes.
const formatVersion = 1

// versionInfo is what "version" prints.
type versionInfo struct {
	Version        string   `json:"version"`
	Commit         string   `json:"commit,omitempty"`
	Modified       bool     `json:"modified,omitempty"`
	Go             string   `json:"go"`
	Platform       string   `json:"platform"`
	EnvelopeFormat int      `json:"envelopeFormat"`
	FIPS140        bool     `json:"fips140"`
	Backends       []string `json:"backends"`
}

func readVersion() versionInfo {
	v := versionInfo{
		Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		EnvelopeFormat: formatVersion, FIPS140: fips140.Enabled(), Backends: registry().Schemes(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v.Version == "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && v.Commit == "":
				v.Commit = s.Value
			case s.Key == "vcs.modified" && commit == "":
				v.Modified = s.Value == "true"
			}
		}
	}
	if v.Version == "" {
		v.Version = "unknown"
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Tell the version, and what it was built from",
		Long: `Tell the version and commit, the version of Go, the envelope format that is
written, whether Go's cryptography runs in FIPS 140 mode (GODEBUG=fips140=on),
and the KMSs that are built in, by the schemes of their key URIs.`,
		Example: `  waxseal version
  waxseal version --json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return a.show(asJSON, v, v.write)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (v versionInfo) write(w io.Writer) error {
	built := v.Version
	if v.Commit != "" {
		built += " (commit " + v.Commit
		if v.Modified {
			built += ", modified"
		}
		built += ")"
	}
	fips := "off"
	if v.FIPS140 {
		fips = "on"
	}
	_, err := fmt.Fprintf(w, "waxseal          %s\ngo               %s %s\nenvelope format  %d\nfips 140         %s\nkms schemes      %s\n",
		built, v.Go, v.Platform, v.EnvelopeFormat, fips, strings.Join(v.Backends, ", "))
	return err
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// show writes v as JSON, or what text writes, to standard output.
func (a *app) show(asJSON bool, v any, text func(io.Writer) error) error {
	if asJSON {
		return a.printJSON(v)
	}
	return text(a.out)
}

// printJSON writes v to standard output, indented. It escapes characters that a terminal obeys or that do not show.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, escapeJSON(b.String()))
	return err
}

// escapeJSON escapes the unprintable characters in the strings of a JSON text.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
