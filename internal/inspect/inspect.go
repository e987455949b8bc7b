package inspect

import (
	"bytes"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/kms"
)

// Document is what a JSON document says about the payloads in it.
type Document struct {
	// Verified is always false: see the package comment.
	Verified bool      `json:"verified"`
	Payloads []Payload `json:"payloads"`
}

// Payload is one payload, sealed or not. Of Encoding, Envelope and Error it has one.
type Payload struct {
	Path   string `json:"path,omitempty"`
	Sealed bool   `json:"sealed"`
	// Encoding of a payload that is not sealed.
	Encoding string    `json:"encoding,omitempty"`
	Envelope *Envelope `json:"envelope,omitempty"`
	// Error is the text of Err: why what claims to be an envelope cannot be read.
	Error string `json:"error,omitempty"`
	Err   error  `json:"-"`
}

// Envelope is what an envelope says.
type Envelope struct {
	Suite           uint32            `json:"suite"`
	Algorithms      string            `json:"algorithms"`
	Namespace       string            `json:"namespace"`
	Claims          map[string]string `json:"claims"`
	Compression     string            `json:"compression"`
	CiphertextBytes int               `json:"ciphertextBytes"`
	PlaintextBytes  int               `json:"plaintextBytes"`
	Recipients      []Recipient       `json:"recipients"`
}

// Recipient is one wrapped data key of an envelope. Key is empty where the container names it and is not there.
type Recipient struct {
	Key          string `json:"key,omitempty"`
	Version      string `json:"version,omitempty"`
	WrappedBytes int    `json:"wrappedBytes"`
}

// Read reads a document, or an envelope that stands alone, in base64 or as bytes.
func Read(text []byte) (*Document, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) > 0 && bytes.IndexByte([]byte("{["), trimmed[0]) < 0 && !bytes.HasPrefix(trimmed, []byte{0xef, 0xbb, 0xbf}) {
		if bare := bareEnvelope(trimmed, text); bare != nil {
			item := envelopeOf(bare, nil)
			if item.Err != nil {
				return nil, item.Err
			}
			return &Document{Payloads: []Payload{item}}, nil
		}
	}
	doc, err := payloaddoc.Parse(text, codec.Encoding)
	if err != nil {
		return nil, err
	}
	if doc.Kind == payloaddoc.Other && len(doc.Found) == 0 {
		return nil, payloaddoc.ErrNoPayloads
	}
	out := &Document{Payloads: make([]Payload, len(doc.Found))}
	for i, f := range doc.Found {
		out.Payloads[i] = payloadOf(f.Payload)
		out.Payloads[i].Path = f.Path
	}
	return out, nil
}

// bareEnvelope returns the bytes of an envelope that stands alone, in base64 or as bytes; nil if the text is neither.
func bareEnvelope(trimmed, text []byte) []byte {
	if b := payloaddoc.DecodeBase64(string(bytes.Join(bytes.Fields(trimmed), nil))); b != nil {
		return b
	}
	const recipients = 0x0a // the tag of an envelope's first field
	if text[0] == recipients {
		return text
	}
	return nil
}

func payloadOf(p *commonpb.Payload) Payload {
	if !codec.ClaimsSealed(p) {
		return Payload{Encoding: string(p.GetMetadata()[converter.MetadataEncoding])}
	}
	names, err := format.SplitKeyIDs(string(p.GetMetadata()[codec.MetadataKeyIDs]))
	if err != nil {
		return unreadable(&containerError{err})
	}
	return envelopeOf(p.GetData(), names)
}

// unreadable is a payload that claims to be sealed and holds no envelope.
func unreadable(err error) Payload {
	return Payload{Sealed: true, Error: err.Error(), Err: err}
}

// containerError is a payload with metadata that does not name the keys of its envelope as the format requires.
type containerError struct{ err error }

func (e *containerError) Error() string {
	return "the payload's " + codec.MetadataKeyIDs + ": " + e.err.Error()
}
func (e *containerError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e *containerError) Hint() string {
	return "the payload was altered or cut short; fetch it again from where it is stored"
}

// envelopeOf reads an envelope. names are the keys that its container names; nil if it has no container.
func envelopeOf(data []byte, names []string) Payload {
	env, err := format.Parse(data)
	if err != nil {
		return unreadable(err)
	}
	if names != nil {
		if _, err := env.KeyIDs(names); err != nil {
			return unreadable(&containerError{err})
		}
	}
	out := &Envelope{
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
		out.Recipients = append(out.Recipients, Recipient{Key: key, Version: version, WrappedBytes: len(r.WrappedKey)})
	}
	return Payload{Sealed: true, Envelope: out}
}
