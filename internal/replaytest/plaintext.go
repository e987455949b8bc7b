package replaytest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Open opens one payload, and reports whether it was sealed.
type Open func(sealed *commonpb.Payload) (plain *commonpb.Payload, wasSealed bool, err error)

// Plaintexts returns one line for each payload of a history: the event's ID, the
// place, "sealed" or "plain", the encoding, the data. Search attributes do not
// go through open, because they are never sealed.
func Plaintexts(h *historypb.History, open Open) (string, error) {
	var out strings.Builder
	for _, e := range h.GetEvents() {
		err := payloads(e.ProtoReflect(), "", func(place string, p *commonpb.Payload) error {
			how := "plain"
			if !strings.Contains(place, ".search_attributes.") {
				plain, sealed, err := open(p)
				if err != nil {
					return fmt.Errorf("event %d: %s: %w", e.GetEventId(), place, err)
				}
				if p = plain; sealed {
					how = "sealed"
				}
			}
			_, err := fmt.Fprintf(&out, "%d %s %s %s\n", e.GetEventId(), place, how, text(p))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

func text(p *commonpb.Payload) string {
	encoding := string(p.GetMetadata()["encoding"])
	if strings.HasPrefix(encoding, "json/") {
		return encoding + " " + string(p.GetData())
	}
	return fmt.Sprintf("%s %q", encoding, p.GetData())
}

// payloads calls f for every payload in m, in an order that does not change.
func payloads(m protoreflect.Message, place string, f func(place string, p *commonpb.Payload) error) error {
	if p, ok := m.Interface().(*commonpb.Payload); ok {
		return f(strings.TrimPrefix(place, "."), p)
	}
	type part struct {
		place   string
		message protoreflect.Message
	}
	var parts []part
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := place + "." + string(fd.Name())
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				parts = append(parts, part{at + "[" + k.String() + "]", v.Message()})
				return true
			})
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				parts = append(parts, part{fmt.Sprintf("%s[%d]", at, i), v.List().Get(i).Message()})
			}
		default:
			parts = append(parts, part{at, v.Message()})
		}
		return true
	})
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.place, b.place) })
	for _, p := range parts {
		if err := payloads(p.message, p.place, f); err != nil {
			return err
		}
	}
	return nil
}
