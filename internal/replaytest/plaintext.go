package replaytest

import (
	"fmt"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Open opens one payload, and reports whether it was sealed.
type Open func(sealed *commonpb.Payload) (plain *commonpb.Payload, wasSealed bool, err error)

// Plaintexts returns one line for each payload of a history: the event's ID, the place, "sealed" or "plain", the
// encoding, the data. Search attributes do not go through open, because they are never sealed.
func Plaintexts(h *historypb.History, open Open) (string, error) {
	var out strings.Builder
	for _, e := range h.GetEvents() {
		var lines []string
		err := protorange.Range(e.ProtoReflect(), func(v protopath.Values) error {
			m, _ := v.Index(-1).Value.Interface().(protoreflect.Message)
			if m == nil {
				return nil
			}
			p, ok := m.Interface().(*commonpb.Payload)
			if !ok {
				return nil
			}
			place, how := placeOf(v.Path), "plain"
			if !strings.Contains(place, ".search_attributes.") {
				plain, sealed, err := open(p)
				if err != nil {
					return fmt.Errorf("event %d: %s: %w", e.GetEventId(), place, err)
				}
				if p = plain; sealed {
					how = "sealed"
				}
			}
			lines = append(lines, fmt.Sprintf("%d %s %s %s\n", e.GetEventId(), place, how, text(p)))
			return nil
		})
		if err != nil {
			return "", err
		}
		slices.Sort(lines)
		out.WriteString(strings.Join(lines, ""))
	}
	return out.String(), nil
}

// placeOf is a path below the event, without the quotes of a map's keys.
func placeOf(path protopath.Path) string {
	return strings.NewReplacer(`["`, "[", `"]`, "]").Replace(strings.TrimPrefix(path[1:].String(), "."))
}

func text(p *commonpb.Payload) string {
	encoding := string(p.GetMetadata()["encoding"])
	if strings.HasPrefix(encoding, "json/") {
		return encoding + " " + string(p.GetData())
	}
	return fmt.Sprintf("%s %q", encoding, p.GetData())
}
