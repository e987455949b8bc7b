package codec

import (
	"context"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/sealed"
)

// payloadCodec is a Codec at a site, in the shape the SDK wants.
type payloadCodec struct {
	codec *Codec
	site  site
	// composed says that it is in a converter of the SDK or of the program, not in ours.
	composed bool
}

var (
	_ converter.PayloadCodec                         = (*payloadCodec)(nil)
	_ converter.PayloadCodecWithSerializationContext = (*payloadCodec)(nil)
)

// PayloadCodec returns the codec as the SDK's own interface, for programs that compose their
// own data converter. namespace is the client's: the codec opens payloads for that namespace
// (see NewDataConverter). It records the claims that rules bind, but does not compare them,
// because a codec cannot distinguish a failure that is passed on from an input. Prefer
// NewPlugin where possible: it also guards what the data converter never sees.
//
// An error that holds a workflow, such as an unavailable KMS, is a
// converter.WorkflowTaskFailureError. If the program uses converter.NewCodecDataConverter, the
// SDK fails the workflow task in the places that this type documents. In others, the workflow
// can fail.
//
// Decode fails as a whole if one payload fails, as the SDK expects. In an activity, Encode and
// Decode fail with a *TaskNamespaceError, of Class Denied, if the task names another namespace.
func (c *Codec) PayloadCodec(namespace string) converter.PayloadCodec {
	return &payloadCodec{codec: c, site: site{namespace: namespace, unbound: true}, composed: true}
}

// failed returns the error of a conversion in the form that the SDK needs.
func (p *payloadCodec) failed(err error) error {
	if p.composed && err != nil && p.codec.holds(p.site.owner(), err) {
		return converter.NewWorkflowTaskFailureError(err)
	}
	return err
}

// Encode implements converter.PayloadCodec. On an error it returns no payloads, because some
// callers in the SDK would send them.
func (p *payloadCodec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if p.site.replay {
		return payloads, nil // a replayer discards what it encodes; see newReplayConverter
	}
	facts, err := p.site.sealing()
	if err != nil {
		return nil, err
	}
	var out []*commonpb.Payload
	err = p.codec.at(p.site, func(ctx context.Context) (err error) {
		out, err = p.codec.encodeAt(ctx, facts, p.site.place(), nil, payloads)
		return err
	})
	return out, p.failed(err)
}

// Decode implements converter.PayloadCodec.
func (p *payloadCodec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	facts, err := p.site.opening()
	if err != nil {
		return nil, err
	}
	out := make([]*commonpb.Payload, len(payloads))
	err = p.codec.at(p.site, func(ctx context.Context) error {
		for i, d := range p.codec.decodeAt(ctx, facts, p.site.place(), payloads) {
			if d.Err != nil {
				return d.Err
			}
			out[i] = d.Payload
		}
		return nil
	})
	if err != nil {
		return nil, p.failed(err)
	}
	return out, nil
}

// WithSerializationContext implements converter.PayloadCodecWithSerializationContext.
func (p *payloadCodec) WithSerializationContext(sc converter.SerializationContext) converter.PayloadCodec {
	c := *p
	c.site.serialization = sc
	return &c
}

const (
	// MetadataKeyIDs is the metadata key under which a sealed payload names its
	// KEKs: URIs in recipient order, separated by one space, each followed by
	// "@version" where the KMS states the version.
	MetadataKeyIDs = sealed.MetadataKeyIDs
	// Encoding is the encoding of a sealed payload.
	Encoding = sealed.Encoding
)

// ClaimsSealed reports whether the metadata of p say that it is sealed. That is no proof;
// opening it is.
func ClaimsSealed(p *commonpb.Payload) bool { return sealed.Claims(p) }

// KeyIDs returns the KEKs that a sealed payload names, with versions, in recipient order: 1 to
// 8 IDs, each of 1 to 1100 printable ASCII characters. It returns nil if the payload names
// none, or if its metadata are not such a list: they are not authenticated, and must not reach
// a log or a terminal.
func KeyIDs(p *commonpb.Payload) []string { return sealed.KeyIDs(p) }
