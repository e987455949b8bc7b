package hostile

import (
	"fmt"
	"math/rand/v2"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// means are the means of an adversary: everything that it has stored, and what it can make up.
// It has no key.
type means struct {
	r *rand.Rand
	// injected is a value that no honest program made.
	injected string
	// stored are envelopes of the same namespace. foreign are envelopes of another namespace
	// that the same keys open.
	stored, foreign []sealedAt
	// workflow is the workflow that the response is for.
	workflow string
	// namespace is the namespace that foreign was sealed for.
	namespace string
	response  proto.Message
	// storage is the external storage of the lane; nil where it has none.
	storage *storage
}

// sealedAt is an envelope, and its origin.
type sealedAt struct {
	payload  *commonpb.Payload
	workflow string
	path     string
}

// mutation is one way to alter a response at a place. It reports whether it altered anything:
// not every mutation fits every place.
type mutation struct {
	name  string
	kinds []kind
	alter func(m *means, p place) bool
}

var (
	onPayloads = []kind{kindPayload, kindPayloads, kindMemo, kindHeader, kindAttributes}
	notPlain   = []kind{kindPayload, kindPayloads, kindMemo, kindHeader} // search attributes are plaintext by design
)

// mutations are all actions of the adversary.
var mutations = []mutation{
	{"plaintext injected", notPlain, func(m *means, p place) bool { return m.replace(p, m.plaintext()) }},
	{"sealed for another namespace", onPayloads, func(m *means, p place) bool {
		return m.replace(p, m.any(m.foreign, func(sealedAt) bool { return true }))
	}},
	{"sealed for another workflow", onPayloads, func(m *means, p place) bool {
		return m.replace(p, m.any(m.stored, func(s sealedAt) bool { return s.workflow != m.workflow }))
	}},
	{"sealed for another workflow, and marked as an operation's", onPayloads, func(m *means, p place) bool {
		return m.mark() && m.replace(p, m.any(m.stored, func(s sealedAt) bool { return s.workflow != m.workflow }))
	}},
	{"sealed for another place", onPayloads, func(m *means, p place) bool {
		return m.replace(p, m.any(m.stored, func(s sealedAt) bool { return s.workflow == m.workflow && s.path != p.path }))
	}},
	{"a bit flipped", onPayloads, func(m *means, p place) bool { return m.edit(p, m.flip) }},
	{"metadata altered", onPayloads, func(m *means, p place) bool { return m.edit(p, m.alterMetadata) }},
	{"line breaks in the key ID", notPlain, func(m *means, p place) bool { return m.edit(p, m.breakKeyID) }},
	{"dropped", onPayloads, drop},
	{"dropped whole", []kind{kindPayloads, kindFailure, kindHeader, kindMemo, kindAny}, func(_ *means, p place) bool { return p.clear() }},
	{"doubled", onPayloads, double},
	{"reordered", onPayloads, reorder},
	{"a forged storage reference", notPlain, func(m *means, p place) bool { return m.replace(p, m.reference()) }},
	{"plaintext failure message", []kind{kindFailure}, func(m *means, p place) bool {
		f := p.value.(*failurepb.Failure)
		f.EncodedAttributes, f.Message, f.StackTrace = nil, m.injected, m.injected
		return true
	}},
	{"plaintext failure details", []kind{kindFailure}, func(m *means, p place) bool { return m.forgeDetails(p.value.(*failurepb.Failure)) }},
	{"plaintext cause", []kind{kindFailure}, func(m *means, p place) bool {
		f := p.value.(*failurepb.Failure)
		f.Cause = &failurepb.Failure{Message: m.injected, Source: "GoSDK", FailureInfo: applicationInfo(m.payloads())}
		return true
	}},
	{"plaintext header added", []kind{kindHeader}, func(m *means, p place) bool {
		h := p.value.(*commonpb.Header)
		if h.Fields == nil {
			h.Fields = make(map[string]*commonpb.Payload)
		}
		h.Fields[headerInjected] = m.plaintext()
		return true
	}},
	{"plaintext memo added", []kind{kindMemo}, func(m *means, p place) bool {
		memo := p.value.(*commonpb.Memo)
		if memo.Fields == nil {
			memo.Fields = make(map[string]*commonpb.Payload)
		}
		memo.Fields["injected"] = m.plaintext()
		return true
	}},
	{"a foreign namespace", []kind{kindNamespace}, func(m *means, p place) bool {
		p.holder.Set(p.field, protoreflect.ValueOfString(m.namespace))
		return true
	}},
	{"no namespace", []kind{kindNamespace}, func(_ *means, p place) bool { return p.clear() }},
	{"a forged version marker", []kind{kindHistory}, func(m *means, p place) bool { return m.forgeMarker(p.value.(*historypb.History)) }},
	{"a forged signal", []kind{kindHistory}, func(m *means, p place) bool { return m.forgeSignal(p.value.(*historypb.History)) }},
}

func (m mutation) fits(p place) bool { return slices.Contains(m.kinds, p.kind) }

// mark marks the response's subject as started by a Nexus handler. In the context of an
// operation the workflow of a payload is not known.
func (m *means) mark() bool {
	r := m.response.ProtoReflect()
	f := r.Descriptor().Fields().ByName("propagated_nexus_serialization_context")
	if f != nil {
		r.Set(f, protoreflect.ValueOfMessage((&nexuspb.PropagatedSerializationContext{Endpoint: "endpoint", Service: "service", Operation: "operation"}).ProtoReflect()))
	}
	return f != nil
}

// plaintext is a value as an honest program without Waxseal would send it.
func (m *means) plaintext() *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: fmt.Appendf(nil, "%q", m.injected)}
}

func (m *means) payloads() *commonpb.Payloads {
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{m.plaintext()}}
}

// reference claims that the value is in external storage.
func (m *means) reference() *commonpb.Payload {
	if m.storage != nil && m.r.IntN(4) > 0 {
		return m.storage.reference(m)
	}
	if m.r.IntN(2) == 0 {
		return &commonpb.Payload{
			Metadata: map[string][]byte{"encoding": []byte("json/external-storage-reference")}, Data: fmt.Appendf(nil, "%q", m.injected),
			ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 1}},
		}
	}
	return &commonpb.Payload{
		Metadata:         map[string][]byte{"encoding": []byte("json/protobuf"), "messageType": []byte("temporal.api.sdk.v1.ExternalStorageReference")},
		Data:             fmt.Appendf(nil, `{"driverName":%q}`, m.injected),
		ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 1}},
	}
}

// any returns one element that satisfies ok, nil if none does.
func (m *means) any(of []sealedAt, ok func(sealedAt) bool) *commonpb.Payload {
	if len(of) == 0 {
		return nil
	}
	from := m.r.IntN(len(of))
	for i := range of {
		if s := of[(from+i)%len(of)]; ok(s) {
			return proto.CloneOf(s.payload)
		}
	}
	return nil
}

// edit alters one of the payloads in a place with f.
func (m *means) edit(p place, f func(*commonpb.Payload) bool) bool {
	all := p.payloads()
	return len(all) > 0 && f(all[m.r.IntN(len(all))])
}

// replace replaces one of the payloads in a place.
func (m *means) replace(p place, by *commonpb.Payload) bool {
	return by != nil && m.edit(p, func(old *commonpb.Payload) bool {
		proto.Reset(old)
		proto.Merge(old, by)
		return true
	})
}

func (m *means) flip(p *commonpb.Payload) bool {
	if len(p.GetData()) == 0 {
		return false
	}
	p.Data[m.r.IntN(len(p.GetData()))] ^= 1 << m.r.IntN(8)
	return true
}

func (m *means) alterMetadata(p *commonpb.Payload) bool {
	if p.Metadata == nil {
		p.Metadata = make(map[string][]byte)
	}
	switch m.r.IntN(5) {
	case 0:
		p.Metadata["encoding"] = []byte("json/plain")
	case 1:
		p.Metadata["encoding"] = []byte("binary/plain")
	case 2:
		p.Metadata["injected"] = []byte(m.injected)
	case 3:
		delete(p.Metadata, "encryption-key-id")
	default:
		p.Metadata["encoding"] = append(p.Metadata["encoding"], ' ')
	}
	return true
}

func (m *means) breakKeyID(p *commonpb.Payload) bool {
	if p.Metadata == nil {
		return false
	}
	p.Metadata["encryption-key-id"] = fmt.Appendf(nil, "%s\n\u202e%s", p.GetMetadata()["encryption-key-id"], m.injected)
	return true
}

// clear empties the field of a place.
func (p place) clear() bool {
	switch {
	case p.field.IsMap():
		p.holder.Mutable(p.field).Map().Clear(p.key)
	case p.field.IsList():
		return false
	default:
		p.holder.Clear(p.field)
	}
	return true
}

// drop removes the last payload.
func drop(_ *means, p place) bool {
	switch v := p.value.(type) {
	case *commonpb.Payloads:
		if len(v.GetPayloads()) == 0 {
			return false
		}
		v.Payloads = v.GetPayloads()[:len(v.GetPayloads())-1]
		return true
	case *commonpb.Header:
		return dropKey(v.GetFields())
	case *commonpb.Memo:
		return dropKey(v.GetFields())
	case *commonpb.SearchAttributes:
		return dropKey(v.GetIndexedFields())
	}
	return p.clear()
}

func dropKey(m map[string]*commonpb.Payload) bool {
	keys := sortedKeys(m)
	if len(keys) == 0 {
		return false
	}
	delete(m, keys[len(keys)-1])
	return true
}

func double(_ *means, p place) bool {
	switch v := p.value.(type) {
	case *commonpb.Payloads:
		if len(v.GetPayloads()) == 0 {
			return false
		}
		v.Payloads = append(v.GetPayloads(), proto.CloneOf(v.GetPayloads()[0]))
		return true
	case *commonpb.Header:
		return doubleKey(v.GetFields())
	case *commonpb.Memo:
		return doubleKey(v.GetFields())
	case *commonpb.SearchAttributes:
		return doubleKey(v.GetIndexedFields())
	case *commonpb.Payload:
		if !p.field.IsMap() {
			return false
		}
		entries := p.holder.Mutable(p.field).Map()
		entries.Set(protoreflect.ValueOfString("doubled").MapKey(), protoreflect.ValueOfMessage(proto.CloneOf(v).ProtoReflect()))
		return true
	}
	return false
}

func doubleKey(m map[string]*commonpb.Payload) bool {
	keys := sortedKeys(m)
	if len(keys) == 0 {
		return false
	}
	m["doubled"] = proto.CloneOf(m[keys[0]])
	return true
}

// reorder exchanges two payloads of a place, or one with a payload of another place.
func reorder(m *means, p place) bool {
	own := p.payloads()
	if len(own) == 0 {
		return false
	}
	a, b := own[0], own[len(own)-1]
	if len(own) == 1 {
		var others []*commonpb.Payload
		for _, o := range placesIn(m.response) {
			for _, other := range o.payloads() {
				if other != a && !proto.Equal(other, a) {
					others = append(others, other)
				}
			}
		}
		if len(others) == 0 {
			return false
		}
		b = others[m.r.IntN(len(others))]
	}
	if proto.Equal(a, b) {
		return false
	}
	kept := proto.CloneOf(a)
	proto.Reset(a)
	proto.Merge(a, b)
	proto.Reset(b)
	proto.Merge(b, kept)
	return true
}

func applicationInfo(details *commonpb.Payloads) *failurepb.Failure_ApplicationFailureInfo {
	return &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "Forged", Details: details}}
}

func (m *means) forgeDetails(f *failurepb.Failure) bool {
	switch info := f.GetFailureInfo().(type) {
	case *failurepb.Failure_ApplicationFailureInfo:
		info.ApplicationFailureInfo.Details = m.payloads()
	case *failurepb.Failure_CanceledFailureInfo:
		info.CanceledFailureInfo.Details = m.payloads()
	case *failurepb.Failure_TimeoutFailureInfo:
		info.TimeoutFailureInfo.LastHeartbeatDetails = m.payloads()
	default:
		return false
	}
	return true
}

// forgeMarker adds a Version marker to an already completed task: the SDK writes its change ID
// and its version into a search attribute.
func (m *means) forgeMarker(h *historypb.History) bool {
	id := m.any(m.stored, func(s sealedAt) bool { return s.path != pathNumber })
	number := m.any(m.stored, func(s sealedAt) bool { return s.path == pathNumber })
	if m.r.IntN(2) == 0 {
		id = m.any(m.foreign, func(s sealedAt) bool { return s.path != pathNumber })
	}
	at := slices.IndexFunc(h.GetEvents(), func(e *historypb.HistoryEvent) bool {
		return e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
	})
	if id == nil || number == nil || at < 0 || at+1 >= len(h.GetEvents()) {
		return false
	}
	one := func(p *commonpb.Payload) *commonpb.Payloads {
		return &commonpb.Payloads{Payloads: []*commonpb.Payload{p}}
	}
	h.Events = insert(h.GetEvents(), at+1, &historypb.HistoryEvent{
		EventType: enumspb.EVENT_TYPE_MARKER_RECORDED, EventTime: timestamppb.Now(),
		Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
			MarkerName: "Version", Details: map[string]*commonpb.Payloads{"change-id": one(id), "version": one(number)},
			WorkflowTaskCompletedEventId: h.GetEvents()[at].GetEventId(),
		}},
	})
	return true
}

// forgeSignal adds a signal that no program sent.
func (m *means) forgeSignal(h *historypb.History) bool {
	e := &historypb.HistoryEvent{
		EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, EventTime: timestamppb.Now(),
		Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{
			SignalName: signalName, Input: m.payloads(), Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{headerOwn: m.plaintext()}},
		}},
	}
	if len(h.GetEvents()) < 2 {
		return false
	}
	h.Events = insert(h.GetEvents(), 1, e)
	// The begun workflow task is no longer the last event if it is the second one.
	return true
}
