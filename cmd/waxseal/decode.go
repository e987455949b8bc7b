package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/internal/terminal"
)

func (a *app) decodeCommand() *cobra.Command {
	d := decoder{app: a, keys: source{app: a}, room: payloaddoc.MaxSize}
	cmd := &cobra.Command{
		Use:   "decode [file]",
		Short: "Open the payloads in a JSON file, whole histories too",
		Long: `Open sealed payloads, wherever they are in the JSON of a file or of standard
input: one payload, {"payloads":[…]}, a list of payloads, a history as "temporal
workflow show -o json" or the Web UI write it, or what other temporal commands
print. All else stays byte for byte as it is. Failures get their message and
stack trace back. The output can be replayed by an SDK.

A payload that cannot be opened stays sealed; standard error says why, and the
exit code is 3. If none can be opened, that is a failure and nothing is written.
The output is plaintext: -o makes a file that only you may read.`,
		Example: `  # Read a history.
  temporal workflow show --workflow-id order-1 -o json | waxseal decode

  # Keep it in a file that only you may read; fail unless all of it opens.
  waxseal decode --strict -o opened.json history.json

  # Open with the keys of a policy file what was sealed for one namespace only.
  waxseal decode --config waxseal.yaml --namespace payments history.json`,
		Args: atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.read(cmd.Context(), args)
			if err != nil {
				return err
			}
			return d.decode(cmd.Context(), text)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&d.namespace, "namespace", "n", "", "open only what was sealed for this Temporal `namespace`, or one that its rule accepts; without it, each envelope's own namespace decides")
	cmd.Flags().BoolVar(&d.strict, "strict", false, "fail, and write nothing, unless all sealed payloads open")
	d.out.flags(cmd)
	d.keys.flags(cmd)
	return cmd
}

// decoder is one run of decode.
type decoder struct {
	app       *app
	keys      source
	namespace string
	strict    bool
	out       output
	room      int // for plaintext, in bytes: a compressed history can open into far more than its own size
}

func (d *decoder) decode(ctx context.Context, text []byte) error {
	doc, err := payloaddoc.Parse(text, codec.Encoding)
	if err != nil {
		return err
	}
	if doc.Kind == payloaddoc.Other && len(doc.Found) == 0 {
		return payloaddoc.ErrNoPayloads
	}
	opened := make([]*commonpb.Payload, len(doc.Found))
	var failed *partialError
	if d.keys.config != "" || slices.ContainsFunc(doc.Found, isSealed) {
		if opened, failed, err = d.open(ctx, doc.Found); err != nil {
			return err
		}
	}
	switch {
	case failed == nil:
	case len(doc.Found) == 1:
		return failed.causes[0].err
	case d.strict:
		failed.verdict = failed.count() + " could not be opened, so with --strict nothing is written"
		return failed
	case failed.failed == failed.total:
		failed.verdict = failed.none() + " could be opened, so nothing is written"
		return failed
	}
	result, err := doc.Replace(opened)
	if err != nil {
		return err
	}
	if err := d.app.write(d.out, result); err != nil {
		return err
	}
	if failed == nil {
		return nil
	}
	failed.done, failed.verdict = true, failed.count()+" could not be opened and stay as they are"
	return failed
}

func isSealed(f payloaddoc.Found) bool { return codec.ClaimsSealed(f.Payload) }

// open opens the sealed payloads; nil stands for one that stays as it is. The partialError has those that did not open.
func (d *decoder) open(ctx context.Context, found []payloaddoc.Found) ([]*commonpb.Payload, *partialError, error) {
	c, err := d.keys.forOpening(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	left := d.room
	room := func(size int) bool {
		left -= size
		return left >= 0
	}

	progress := terminal.StartProgress(d.app.err, len(found), "payloads opened")
	defer progress.Stop()
	opened := make([]*commonpb.Payload, 0, len(found))
	var failed partialError
	for chunk := range slices.Chunk(found, batch) {
		for i, r := range c.Decode(ctx, codec.DecodeOptions{Namespace: d.namespace, Room: room}, payloadsOf(chunk)) {
			var payload *commonpb.Payload
			switch {
			case !r.Sealed && chunk[i].SearchAttribute: // search attributes are never sealed, so requireSealed spares them
			case r.Err != nil:
				failed.fail(chunk[i].Path, r.Err)
			case r.Sealed:
				payload = r.Payload
			}
			if r.Sealed || r.Err != nil && !chunk[i].SearchAttribute {
				failed.total++
			}
			opened = append(opened, payload)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		progress.Add(len(chunk))
	}
	if failed.failed == 0 {
		return opened, nil, nil
	}
	return opened, &failed, nil
}
