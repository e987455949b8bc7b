package main

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/kms"
)

// inspection is what "inspect" tells about a document.
type inspection struct {
	// Verified is always false: see unverified.
	Verified bool            `json:"verified"`
	Payloads []inspectedItem `json:"payloads"`
}

// inspectedItem is one payload, sealed or not.
type inspectedItem struct {
	Path   string `json:"path,omitempty"`
	Sealed bool   `json:"sealed"`
	// Encoding of a payload that is not sealed.
	Encoding string             `json:"encoding,omitempty"`
	Envelope *inspectedEnvelope `json:"envelope,omitempty"`
	// Error is why what claims to be an envelope cannot be read.
	Error string `json:"error,omitempty"`

	err error
}

type inspectedEnvelope struct {
	Suite           uint32               `json:"suite"`
	Algorithms      string               `json:"algorithms"`
	Namespace       string               `json:"namespace"`
	Claims          map[string]string    `json:"claims"`
	Compression     string               `json:"compression"`
	CiphertextBytes int                  `json:"ciphertextBytes"`
	PlaintextBytes  int                  `json:"plaintextBytes"`
	Recipients      []inspectedRecipient `json:"recipients"`
}

type inspectedRecipient struct {
	Key          string `json:"key,omitempty"`
	Version      string `json:"version,omitempty"`
	WrappedBytes int    `json:"wrappedBytes"`
}

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
			found, err := inspect(text)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(found)
			} else {
				err = a.printInspection(found, long)
			}
			if err != nil {
				return err
			}
			return found.problems()
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVarP(&long, "long", "l", false, "tell all about each payload, not one line")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// inspect reads a document, or a bare envelope.
func inspect(text []byte) (*inspection, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) > 0 && bytes.IndexByte([]byte("{["), trimmed[0]) < 0 && !bytes.HasPrefix(trimmed, []byte{0xef, 0xbb, 0xbf}) {
		if bare := bareEnvelope(trimmed, text); bare != nil {
			item := inspectEnvelope(bare, nil)
			if item.err != nil {
				return nil, item.err
			}
			return &inspection{Payloads: []inspectedItem{item}}, nil
		}
	}
	doc, err := payloaddoc.Parse(text, codec.Encoding)
	if err != nil {
		return nil, err
	}
	if doc.Kind == payloaddoc.Other && len(doc.Found) == 0 {
		return nil, errNoPayloads
	}
	out := &inspection{Payloads: make([]inspectedItem, len(doc.Found))}
	for i, f := range doc.Found {
		out.Payloads[i] = inspectPayload(f.Payload)
		out.Payloads[i].Path = f.Path
	}
	return out, nil
}

// bareEnvelope returns the bytes of an envelope that stands alone, in base64 or
// as it is; nil if the text is neither.
func bareEnvelope(trimmed, text []byte) []byte {
	compact := bytes.Join(bytes.Fields(trimmed), nil)
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(compact, "-_") {
		encoding = base64.RawURLEncoding
	}
	if b, err := encoding.DecodeString(string(bytes.TrimRight(compact, "="))); err == nil {
		return b
	}
	const recipients = 0x0a // the tag of an envelope's first field
	if text[0] == recipients {
		return text
	}
	return nil
}

func inspectPayload(p *commonpb.Payload) inspectedItem {
	if !codec.ClaimsSealed(p) {
		return inspectedItem{Encoding: string(p.GetMetadata()[codec.MetadataEncoding])}
	}
	names, err := format.SplitKeyIDs(string(p.GetMetadata()[codec.MetadataKeyIDs]))
	if err != nil {
		return unreadable(badContainer(err))
	}
	return inspectEnvelope(p.GetData(), names)
}

// unreadable is what claims to be an envelope, and is none.
func unreadable(err error) inspectedItem {
	return inspectedItem{Sealed: true, Error: err.Error(), err: err}
}

// badContainer is the error for a payload whose metadata does not name the keys of
// its envelope as the format demands.
func badContainer(err error) error {
	return advise(fmt.Errorf("the payload's %s: %w", codec.MetadataKeyIDs, err), "the payload was altered or cut short; fetch it again from where it is stored")
}

// inspectEnvelope reads an envelope. names are the keys that its container
// names; none if it has no container.
func inspectEnvelope(data []byte, names []string) inspectedItem {
	env, err := format.Parse(data)
	if err != nil {
		return unreadable(err)
	}
	if names != nil {
		if _, err := env.KeyIDs(names); err != nil {
			return unreadable(badContainer(err))
		}
	}
	out := &inspectedEnvelope{
		Suite: uint32(env.Suite), Algorithms: env.Suite.String(), Namespace: env.Header.Namespace, Claims: map[string]string{},
		Compression: env.Header.Compression.String(), CiphertextBytes: env.CiphertextSize(), PlaintextBytes: env.PlaintextSize(),
	}
	for _, c := range env.Header.Claims {
		out.Claims[c.Name] = c.Value
	}
	for i, r := range env.Recipients {
		id := r.KeyID
		if id == "" && names != nil {
			id = names[i]
		}
		key, version := kms.SplitVersionedID(id)
		out.Recipients = append(out.Recipients, inspectedRecipient{Key: key, Version: version, WrappedBytes: len(r.WrappedKey)})
	}
	return inspectedItem{Sealed: true, Envelope: out}
}

// problems is the error for envelopes that could not be read; nil if all could.
func (n *inspection) problems() error {
	e := &partialError{done: true}
	for _, p := range n.Payloads {
		if p.Sealed {
			e.total++
		}
		if p.err != nil {
			e.fail(p.Path, p.err)
		}
	}
	switch {
	case e.failed == 0:
		return nil
	case len(n.Payloads) == 1:
		return n.Payloads[0].err
	}
	e.verdict = fmt.Sprintf("%d of %d sealed payloads cannot be read", e.failed, e.total)
	return e
}
