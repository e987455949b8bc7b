package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/internal/terminal"
	"github.com/waxseal/waxseal/kms"
)

// batch is how many payloads go through the codec at a time: many share a request to a KMS, few enough to show progress.
const batch = 256

func (a *app) encodeCommand() *cobra.Command {
	keys := source{app: a}
	var out output
	var namespace string
	cmd := &cobra.Command{
		Use:   "encode [file]",
		Short: "Seal payloads in a JSON file",
		Long: `Seal payloads: one payload, {"payloads":[…]}, or a list of payloads, as JSON in
a file or on standard input. The output is the same JSON with each payload
sealed. One that is sealed already, and opens with the keys at hand, stays as
it is. It is all or nothing.

Whole histories are refused: the server keeps its own copy whatever is done to
this one.`,
		Example: `  # Seal one payload for the namespace "default".
  echo '{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"Nw=="}' |
    waxseal encode

  # Seal a file for another namespace, into a file that only you may read.
  waxseal encode --namespace payments -o sealed.json payloads.json

  # Seal under the keys and rules of a policy file.
  waxseal encode --config waxseal.yaml --namespace payments payloads.json`,
		Args: atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if namespace == "" {
				if keys.config != "" {
					return &usageError{text: "there is no namespace to seal for", hint: "say which one with --namespace; with a policy file there is no default"}
				}
				namespace = defaultNamespace
			}
			return a.encode(cmd.Context(), &keys, namespace, args, out)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "Temporal `namespace` to seal for (default \""+defaultNamespace+"\", without --config)")
	out.flags(cmd)
	keys.flags(cmd)
	return cmd
}

func (a *app) encode(ctx context.Context, keys *source, namespace string, args []string, out output) error {
	text, err := a.read(ctx, args)
	if err != nil {
		return err
	}
	doc, err := payloaddoc.Parse(text, codec.Encoding)
	if err != nil {
		return err
	}
	if !doc.Kind.Mutable() {
		what := "this is not a payload or a list of payloads"
		if doc.Kind == payloaddoc.History {
			what = "this is a workflow history, which nobody can change: sealing a copy would leave the server's as it is"
		}
		return advise(errors.New(what), `give a payload or {"payloads":[…]}; new payloads are sealed by the worker's plugin`)
	}
	keys.made = func(path string) {
		a.say(severityNote, "made a new keyring, "+path+": what is sealed under it opens with this file alone")
	}
	lacking := make(missingRecipients)
	keys.hooks.MissingRecipient = lacking.add
	c, err := keys.forSealing(ctx)
	if err != nil {
		return err
	}
	defer c.Close()

	progress := terminal.StartProgress(a.err, len(doc.Found), "payloads sealed")
	defer progress.Stop()
	sealed := make([]*commonpb.Payload, 0, len(doc.Found))
	for found := range slices.Chunk(doc.Found, batch) {
		payloads, err := c.Encode(ctx, codec.EncodeOptions{Namespace: namespace}, payloadsOf(found))
		if err != nil {
			return err
		}
		sealed = append(sealed, payloads...)
		progress.Add(len(found))
	}
	progress.Stop()
	for _, text := range lacking.messages() {
		a.say(severityWarning, text)
	}
	result, err := doc.Replace(changed(doc.Found, sealed))
	if err != nil {
		return err
	}
	return a.write(out, result)
}

// missingRecipients counts payloads that were sealed without a key that their rule names, by message.
type missingRecipients map[string]int

func (m missingRecipients) add(key string, class kms.Class, n int) {
	m[fmt.Sprintf("left out key %q (%s), which will not open what was sealed", key, class)] += n
}

// messages returns the messages with their counts, sorted.
func (m missingRecipients) messages() []string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s; payloads concerned: %d", what, m[what]))
	}
	return out
}

func payloadsOf(found []payloaddoc.Found) []*commonpb.Payload {
	payloads := make([]*commonpb.Payload, len(found))
	for i, f := range found {
		payloads[i] = f.Payload
	}
	return payloads
}

// changed leaves out the payloads that are still those of the document, so that their text stays as it is.
func changed(found []payloaddoc.Found, payloads []*commonpb.Payload) []*commonpb.Payload {
	for i := range payloads {
		if payloads[i] == found[i].Payload {
			payloads[i] = nil
		}
	}
	return payloads
}
