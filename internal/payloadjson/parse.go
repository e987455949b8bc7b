package payloadjson

import (
	commonpb "go.temporal.io/api/common/v1"
)

// Limits bounds what Parse builds. Both count things that take far more memory than JSON ("{}," is three bytes, a Payload well
// over a hundred); the document itself bounds the bytes.
type Limits struct {
	// Payloads is the most payloads in one document.
	Payloads int
	// Entries is the most metadata entries, and the most external payloads, in one payload.
	Entries int
}

// The fields of the three messages, as bits of the set of those seen.
const (
	fieldPayloads uint8 = 1 << iota
	fieldMetadata
	fieldData
	fieldExternal
	fieldSize
)

// Parse reads a Payloads message. The payloads are in the document's order and share no memory with it; "{}" and a null list
// have none, without an error. For a refused document it returns an *Error and nothing else.
//
// The rules are those of protobuf's JSON mapping, proto3, without unknown fields
// (https://protobuf.dev/programming-guides/json).
func Parse(document []byte, limits Limits) ([]*commonpb.Payload, error) {
	p := parser{in: document, limits: limits}
	payloads, ok := p.document()
	if !ok {
		return nil, &Error{Reason: p.reason, Offset: p.at}
	}
	return payloads, nil
}

func (p *parser) document() ([]*commonpb.Payload, bool) {
	var payloads []*commonpb.Payload
	p.space()
	ok := p.message(func(name string) (uint8, func() bool) {
		if name != "payloads" {
			return 0, nil
		}
		return fieldPayloads, func() bool {
			return p.array(func() bool {
				if len(payloads) >= p.limits.Payloads {
					return p.fail(TooManyPayloads)
				}
				payload, ok := p.payload()
				payloads = append(payloads, payload)
				return ok
			})
		}
	})
	if !ok {
		return nil, false
	}
	if p.space(); p.at != len(p.in) {
		return nil, p.fail(Trailing)
	}
	return payloads, true
}

func (p *parser) payload() (*commonpb.Payload, bool) {
	payload := &commonpb.Payload{}
	ok := p.message(func(name string) (uint8, func() bool) {
		switch name {
		case "metadata":
			return fieldMetadata, func() (ok bool) {
				payload.Metadata, ok = p.metadata()
				return ok
			}
		case "data":
			return fieldData, func() (ok bool) {
				payload.Data, ok = p.bytes()
				return ok
			}
		case "externalPayloads", "external_payloads":
			return fieldExternal, func() bool {
				return p.array(func() bool {
					if len(payload.ExternalPayloads) >= p.limits.Entries {
						return p.fail(TooManyEntries)
					}
					details, ok := p.external()
					payload.ExternalPayloads = append(payload.ExternalPayloads, details)
					return ok
				})
			}
		}
		return 0, nil
	})
	return payload, ok
}

func (p *parser) metadata() (map[string][]byte, bool) {
	metadata := make(map[string][]byte)
	ok := p.object(func() bool {
		at := p.at
		name, ok := p.name()
		if !ok {
			return false
		}
		if _, twice := metadata[name]; twice {
			return p.failAt(DuplicateField, at)
		}
		if len(metadata) >= p.limits.Entries {
			return p.failAt(TooManyEntries, at)
		}
		if p.null() {
			return p.fail(NullElement)
		}
		metadata[name], ok = p.bytes()
		return ok
	})
	return metadata, ok
}

func (p *parser) external() (*commonpb.Payload_ExternalPayloadDetails, bool) {
	details := &commonpb.Payload_ExternalPayloadDetails{}
	ok := p.message(func(name string) (uint8, func() bool) {
		if name != "sizeBytes" && name != "size_bytes" {
			return 0, nil
		}
		return fieldSize, func() (ok bool) {
			details.SizeBytes, ok = p.int64()
			return ok
		}
	})
	return details, ok
}

// message reads one protobuf message: field returns the bit and the reader of a name. A null field is left out, but seen.
func (p *parser) message(field func(name string) (bit uint8, value func() bool)) bool {
	if p.null() {
		return p.fail(NullElement)
	}
	var seen uint8
	return p.object(func() bool {
		at := p.at
		name, ok := p.name()
		if !ok {
			return false
		}
		bit, value := field(name)
		switch {
		case value == nil:
			return p.failAt(UnknownField, at)
		case seen&bit != 0:
			return p.failAt(DuplicateField, at)
		}
		seen |= bit
		if p.null() {
			p.at += len("null")
			return true
		}
		return value()
	})
}
