package payloaddoc

import (
	"slices"
	"strconv"
)

// kind finds the kind from the members of the document or of its elements, and does not move the walker; 0 is neither.
func (w *walker) kind() Kind {
	defer func(at int) { w.at = at }(w.at)
	switch w.text[w.at] {
	case '{':
		names := w.names()
		switch {
		case slices.Contains(names, "events"):
			return History
		case slices.Contains(names, "payloads"), len(names) == 0:
			return Payloads
		case slices.ContainsFunc(names, isPayloadMember):
			return Payload
		}
		return Other
	case '[':
		return w.listKind()
	}
	return 0
}

func (w *walker) listKind() Kind {
	kind := List
	w.array(func(int) {
		switch {
		case kind != List:
		case w.text[w.at] == '{':
			at := w.at
			names := w.names()
			w.at = at
			switch {
			case slices.Contains(names, "eventId"), slices.Contains(names, "event_id"):
				kind = History
			case len(names) > 0 && !slices.ContainsFunc(names, isPayloadMember):
				kind = Other
			}
		case w.text[w.at] == 'n': // null in place of a payload: strict reports it
		default:
			kind = Other
		}
		w.skip()
	})
	return kind
}

func isPayloadMember(name string) bool { return slices.Contains(payloadMembers, name) }

// names passes an object and returns the names of its members.
func (w *walker) names() []string {
	var names []string
	w.members(func(name string, _ span) {
		names = append(names, name)
		w.skip()
	})
	return names
}

// strict reads a document that is nothing but payloads.
func (w *walker) strict(kind Kind) []Found {
	whole := span{w.at, len(w.text)}
	var places []span
	before, after, path := "", "", ""
	switch kind {
	case Payload:
		before, after = `{"payloads":[`, `]}`
		places = []span{w.skip()}
	case List:
		before, after = `{"payloads":`, `}`
		w.array(func(int) { places = append(places, w.skip()) })
	default:
		path = "payloads"
		w.members(func(string, span) {
			if w.text[w.at] != '[' {
				w.skip()
				return
			}
			w.array(func(int) { places = append(places, w.skip()) })
		})
	}
	payloads, err := w.parse(whole, before, after)
	if err != nil {
		w.err = err
		return nil
	}
	found := make([]Found, len(payloads))
	for i, p := range payloads {
		found[i] = Found{Payload: p, value: places[i]}
		if kind != Payload {
			found[i].Path = path + "[" + strconv.Itoa(i) + "]"
		}
	}
	return found
}
