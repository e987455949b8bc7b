package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/internal/terminal"
)

const unverified = "unverified: nothing here is proven without a key"

// Write writes one payload in full, and several as a table, or in full too if long.
func (d *Document) Write(w io.Writer, style terminal.Style, long bool) error {
	if _, err := fmt.Fprintln(w, style.Warning(unverified)); err != nil {
		return err
	}
	if !long && len(d.Payloads) != 1 {
		return d.writeTable(w, style)
	}
	for _, p := range d.Payloads {
		if _, err := fmt.Fprint(w, "\n"+p.text(style)); err != nil {
			return err
		}
	}
	return nil
}

// writeTable writes each set of a namespace and keys, under a letter, and then a line for each payload.
func (d *Document) writeTable(w io.Writer, style terminal.Style) error {
	labels := map[string]string{}
	sets := terminal.Table{Header: []string{"SEALED", "NAMESPACE", "KEY", "VERSION"}}
	payloads := terminal.Table{Header: []string{"SEALED", ">BYTES", "PAYLOAD"}}
	for _, p := range d.Payloads {
		switch {
		case p.Err != nil:
			payloads.Row("unreadable", "", shortPath(p.Path))
		case !p.Sealed:
			payloads.Row("no", "", shortPath(p.Path))
		default:
			set := p.Envelope.set()
			if labels[set] == "" {
				labels[set] = letters(len(labels))
				label, namespace := labels[set], p.Envelope.Namespace
				for _, r := range p.Envelope.Recipients {
					sets.Row(label, namespace, r.name(), r.Version)
					label, namespace = "", ""
				}
			}
			payloads.Row(labels[set], strconv.Itoa(p.Envelope.CiphertextBytes), shortPath(p.Path))
		}
	}
	if len(d.Payloads) == 0 {
		_, err := fmt.Fprintln(w, "\nno payloads")
		return err
	}
	tables := []terminal.Table{payloads}
	if len(labels) > 0 {
		tables = []terminal.Table{sets, payloads}
	}
	for _, table := range tables {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := table.Write(w, style); err != nil {
			return err
		}
	}
	return nil
}

// set is the same for envelopes of one namespace and the same keys.
func (e *Envelope) set() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", e.Namespace)
	for _, r := range e.Recipients {
		fmt.Fprintf(&b, " %q %q", r.Key, r.Version)
	}
	return b.String()
}

// shortPath leaves out the common end of the names of a history's attributes, so that most paths fit a line.
func shortPath(path string) string { return strings.Replace(path, "EventAttributes.", "….", 1) }

// letters names the nth set: A to Z, then AA, AB and so on.
func letters(n int) string {
	name := ""
	for ; n >= 0; n = n/26 - 1 {
		name = string(rune('A'+n%26)) + name
	}
	return name
}

// name is the key's ID, or why there is none.
func (r Recipient) name() string {
	if r.Key == "" {
		return "(the payload's metadata names it)"
	}
	return r.Key
}

// text is all about a payload.
func (p Payload) text(style terminal.Style) string {
	var b strings.Builder
	line := func(label, text string) {
		fmt.Fprintf(&b, "%-13s %s\n", label, strings.TrimRight(terminal.Escape(text), " "))
	}
	if p.Path != "" {
		b.WriteString(style.Bold(terminal.Escape(p.Path)) + "\n")
	}
	switch {
	case p.Err != nil:
		line("sealed", "unreadable: "+p.Error)
		return b.String()
	case !p.Sealed:
		line("sealed", "no")
		line("encoding", p.Encoding)
		return b.String()
	}
	e := p.Envelope
	line("namespace", e.Namespace)
	for i, name := range slices.Sorted(maps.Keys(e.Claims)) {
		label := "claims"
		if i > 0 {
			label = ""
		}
		line(label, name+" = "+e.Claims[name])
	}
	for i, r := range e.Recipients {
		label := "recipients"
		if i > 0 {
			label = ""
		}
		line(label, r.name())
		about := fmt.Sprintf("  data key wrapped in %d bytes", r.WrappedBytes)
		if r.Version != "" {
			about = "  version " + r.Version + ", data key wrapped in " + strconv.Itoa(r.WrappedBytes) + " bytes"
		}
		line("", about)
	}
	line("suite", fmt.Sprintf("%d, %s", e.Suite, e.Algorithms))
	line("compression", e.Compression)
	line("ciphertext", fmt.Sprintf("%d bytes", e.CiphertextBytes))
	plaintext := fmt.Sprintf("%d bytes", e.PlaintextBytes)
	if e.Compression != "none" {
		plaintext += " compressed"
	}
	line("plaintext", plaintext)
	return b.String()
}
