package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/canary"
	"github.com/waxseal/waxseal/e2e/internal/payloads"
	"github.com/waxseal/waxseal/e2e/internal/wiretap"
)

// The places where evidence is looked for.
const (
	onTheWire  = "on the wire"     // between clients, workers and the server
	fromTheAPI = "through the API" // as the server returns it
	inTheDB    = "in the database" // as the server stored it
)

// evidence is what was found of a script's canaries.
type evidence struct {
	flock *canary.Flock
	codec *codec.Codec // opens what is sealed, cold; nil if nothing is

	plain    map[string]canary.Found        // by place
	opened   map[string]map[string]bool     // kinds that came out of envelopes, by place
	sealed   map[string][][]byte            // envelopes that hold a kind's canary
	fields   map[string]bool                // payload fields that held a sealed payload
	unsealed map[string]bool                // where a payload was not sealed
	examples map[string]string              // where a kind was found in plaintext first, for the error
	cache    map[[sha256.Size]byte][]string // kinds in an envelope that was opened before
}

func newEvidence(flock *canary.Flock, c *codec.Codec) *evidence {
	return &evidence{
		flock: flock, codec: c,
		plain:  map[string]canary.Found{onTheWire: {}, fromTheAPI: {}, inTheDB: {}},
		opened: map[string]map[string]bool{onTheWire: {}, fromTheAPI: {}, inTheDB: {}},
		sealed: make(map[string][][]byte), fields: make(map[string]bool), unsealed: make(map[string]bool),
		examples: make(map[string]string), cache: make(map[[sha256.Size]byte][]string),
	}
}

// bytes looks for plaintext.
func (e *evidence) bytes(place, what string, b []byte) {
	found := e.flock.Find(b)
	for kind := range found {
		if _, known := e.examples[kind]; !known {
			e.examples[kind] = place + ": " + what
		}
	}
	e.plain[place].Merge(found)
}

// message looks for plaintext in a message and all its usual renderings, and
// opens what is sealed.
func (e *evidence) message(ctx context.Context, place, what string, m proto.Message) error {
	binary, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	json, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	text, err := prototext.Marshal(m)
	if err != nil {
		return err
	}
	for _, b := range [][]byte{binary, json, text} {
		e.bytes(place, what, b)
	}
	found, err := payloads.Walk(m)
	if err != nil {
		return err
	}
	for _, f := range found {
		if !codec.ClaimsSealed(f.Payload) {
			if strings.Contains(what, systemWorkflow) {
				continue // made by the server itself
			}
			e.unsealed[f.Field+" at "+withoutIndexes(f.Path)] = true
			continue
		}
		kinds, err := e.open(ctx, f.Payload)
		if err != nil {
			return fmt.Errorf("%s: open %s of %s: %w", place, f.Path, what, err)
		}
		e.fields[f.Field] = true
		for _, kind := range kinds {
			e.opened[place][kind] = true
		}
	}
	return nil
}

// systemWorkflow is in the ID of every workflow that the server runs for itself.
const systemWorkflow = "temporal-sys-"

var indexes = regexp.MustCompile(`\[[^\]]*\]`)

func withoutIndexes(path string) string { return indexes.ReplaceAllString(path, "[]") }

// open returns the kinds of the canaries in an envelope.
func (e *evidence) open(ctx context.Context, p *commonpb.Payload) ([]string, error) {
	id := sha256.Sum256(p.GetData())
	if kinds, ok := e.cache[id]; ok {
		return kinds, nil
	}
	if e.codec == nil {
		return nil, fmt.Errorf("sealed, and nobody seals here")
	}
	d := e.codec.Decode(ctx, codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
	if d.Err != nil {
		return nil, d.Err
	}
	b, err := proto.Marshal(d.Payload)
	if err != nil {
		return nil, err
	}
	kinds := slices.Collect(maps.Keys(e.flock.Find(b)))
	inner, err := e.nested(ctx, d.Payload)
	if err != nil {
		return nil, err
	}
	kinds = append(kinds, inner...)
	e.cache[id] = kinds
	for _, kind := range kinds {
		e.sealed[kind] = append(e.sealed[kind], p.GetData())
	}
	return kinds, nil
}

// nested opens the envelopes in a payload that is a message with payloads, as
// that of a mutable side effect is.
func (e *evidence) nested(ctx context.Context, p *commonpb.Payload) (kinds []string, err error) {
	name := string(p.GetMetadata()[converter.MetadataMessageType])
	if string(p.GetMetadata()[converter.MetadataEncoding]) != converter.MetadataEncodingProtoJSON || name == "" {
		return nil, nil
	}
	m, err := payloads.Message(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(p.GetData(), m); err != nil {
		return nil, err
	}
	found, err := payloads.Walk(m)
	for _, f := range found {
		inner, failed := e.open(ctx, f.Payload)
		kinds, err = append(kinds, inner...), errors.Join(err, failed)
	}
	return kinds, err
}

// call looks at all of a call: messages, errors and headers.
func (e *evidence) call(ctx context.Context, c wiretap.Call) error {
	service, method, _ := strings.Cut(strings.TrimPrefix(c.Method, "/"), "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return fmt.Errorf("call of %s: %w", c.Method, err)
	}
	md := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	for name, b := range map[protoreflect.FullName][]byte{md.Input().FullName(): c.Request, md.Output().FullName(): c.Response} {
		e.bytes(onTheWire, string(name), b)
		m, err := payloads.Message(name)
		if err != nil {
			return err
		}
		if err := proto.Unmarshal(b, m); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := e.message(ctx, onTheWire, string(name), m); err != nil {
			return err
		}
	}
	if err := e.message(ctx, onTheWire, "error of "+method, c.Status.Proto()); err != nil {
		return err
	}
	for _, headers := range []map[string][]string{c.Sent, c.Received} {
		for name, values := range headers {
			e.bytes(onTheWire, "gRPC header of "+method, []byte(name+": "+strings.Join(values, "\n")))
		}
	}
	return nil
}

// database looks through the database, which must not be in use any more: for
// plaintext, and for the envelopes that were found elsewhere.
func (e *evidence) database(t *testing.T, file string) {
	t.Helper()
	stored := readDatabase(t, file)
	for what, contents := range stored {
		for _, b := range contents {
			e.bytes(inTheDB, what, b)
		}
	}
	for kind, envelopes := range e.sealed {
		for _, envelope := range envelopes {
			if e.opened[inTheDB][kind] {
				break
			}
			for _, contents := range stored {
				if slices.ContainsFunc(contents, func(b []byte) bool { return bytes.Contains(b, envelope) }) {
					e.opened[inTheDB][kind] = true
					break
				}
			}
		}
	}
}
