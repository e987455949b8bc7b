package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/inspect"
	"github.com/waxseal/waxseal/internal/terminal"
)

func (a *app) inspectCommand() *cobra.Command {
	var asJSON, long bool
	cmd := &cobra.Command{
		Use:   "inspect [file]",
		Short: "Tell what envelopes say, without any key",
		Long: `Tell what envelopes say without any key: namespace and claims, the keys that can
open them, algorithms and sizes. It takes the JSON that decode takes, or one
envelope in base64 or as it is.

Nothing of it is proven without a key: whoever can write to where the envelope
was stored could have written it. Opening it is the proof.`,
		Example: `  # Which keys seal a history?
  temporal workflow show --workflow-id order-1 -o json | waxseal inspect

  # All about each payload.
  waxseal inspect --long history.json

  # The keys as a program reads them.
  waxseal inspect --json history.json`,
		Args: atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.read(cmd.Context(), args)
			if err != nil {
				return err
			}
			found, err := inspect.Read(text)
			if err != nil {
				return err
			}
			write := func(w io.Writer) error { return found.Write(w, terminal.StyleFor(w, a.lookup), long) }
			if err := a.show(asJSON, found, write); err != nil {
				return err
			}
			return partlyRead(found)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVarP(&long, "long", "l", false, "tell all about each payload, not one line")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// partlyRead is the error for envelopes that cannot be read; nil if there are none.
func partlyRead(d *inspect.Document) error {
	e := &partialError{done: true}
	for _, p := range d.Payloads {
		if p.Sealed {
			e.total++
		}
		if p.Err != nil {
			e.fail(p.Path, p.Err)
		}
	}
	switch {
	case e.failed == 0:
		return nil
	case len(d.Payloads) == 1:
		return d.Payloads[0].Err
	}
	e.verdict = fmt.Sprintf("%d of %d sealed payloads cannot be read", e.failed, e.total)
	return e
}
