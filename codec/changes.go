package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/kms"
)

// The SDK opens the change ID and the version in each version marker of a history, and writes all
// of them in plaintext into a search attribute at the next new workflow.GetVersion. A server that
// puts any sealed string and any sealed integer of the namespace into a marker would read both.
// So of that attribute only "<id>-<version>" leaves whose ID this program's code names, with a
// version that the code names too. A completion with another one is refused, and its task fails.
// What a child or the next run would only inherit is left out instead: nothing needs it there.

const (
	// changeAttribute is the search attribute that the SDK writes change IDs into.
	changeAttribute = "TemporalChangeVersion"
	// maxChanges bounds the change IDs that are remembered. The attribute of one workflow has at
	// most 2,048 bytes, which is some hundred IDs. A task that meets an evicted ID fails once: the
	// workflow is replayed then, and its code names all of its IDs anew.
	maxChanges = 10_000
)

// versions is a range of versions of a change.
type versions struct{ min, max workflow.Version }

// changes knows the change IDs that workflow code names, in all workers of a Codec, each with
// the widest range of versions. It is safe for concurrent use.
type changes struct {
	retired map[string]bool // see Config.RetiredChanges

	mu    sync.Mutex
	named *simplelru.LRU[string, versions]
}

// newChanges returns an error of Class Internal if an entry of retired has not the form that the
// search attribute has.
func newChanges(retired []string) (*changes, error) {
	named, _ := simplelru.NewLRU[string, versions](maxChanges, nil) // it fails only for a size below one
	c := &changes{retired: make(map[string]bool, len(retired)), named: named}
	for _, entry := range retired {
		if len(splitChange(entry)) == 0 {
			return nil, &kms.Error{
				Op: "read Config.RetiredChanges", Detail: fmt.Sprintf("%q is not <change ID>-<version>", entry),
				Advice: "copy it from the search attribute " + changeAttribute + " of a workflow, as in new-fees-1",
			}
		}
		c.retired[entry] = true
	}
	return c, nil
}

// name notes that workflow code names a change.
func (c *changes) name(id string, in versions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.named.Get(id); ok {
		in = versions{min(known.min, in.min), max(known.max, in.max)}
	}
	c.named.Add(id, in)
}

// knows reports whether an entry of the search attribute comes from the program.
func (c *changes) knows(entry string) bool {
	if c.retired[entry] {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(splitChange(entry), func(s split) bool {
		known, ok := c.named.Get(s.id)
		return ok && known.min <= s.version && s.version <= known.max
	})
}

// split is what an entry of the search attribute may mean.
type split struct {
	id      string
	version workflow.Version
}

// splitChange returns what "<id>-<version>" may mean: "a--1" is version -1 of "a", or version 1 of
// "a-". A version is written as the SDK writes it: no plus sign, no leading zero.
func splitChange(entry string) (all []split) {
	for _, dash := range []string{"-", "--"} {
		at := strings.LastIndex(entry, dash)
		if at < 1 {
			continue
		}
		digits := entry[at+1:]
		if v, err := strconv.Atoi(digits); err == nil && strconv.Itoa(v) == digits {
			all = append(all, split{entry[:at], workflow.Version(v)})
		}
	}
	return all
}

// changesIn returns the entries of the search attribute; false if it is not exactly what the SDK or
// the server makes of a list of strings. JSON that is written in another way could say more.
func changesIn(p *commonpb.Payload) (entries []string, ok bool) {
	for key, value := range p.GetMetadata() {
		switch key {
		case converter.MetadataEncoding:
			ok = string(value) == converter.MetadataEncodingJSON
		case "type":
			if v := string(value); v != "KeywordList" && v != "INDEXED_VALUE_TYPE_KEYWORD_LIST" {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	if !ok || len(p.GetExternalPayloads()) > 0 || len(p.ProtoReflect().GetUnknown()) > 0 || json.Unmarshal(p.GetData(), &entries) != nil {
		return nil, false
	}
	canonical, err := json.Marshal(entries)
	return entries, err == nil && bytes.Equal(canonical, p.GetData())
}

// checkChanges refuses the completion of a task whose search attribute names a change that the
// program does not. The text quotes nothing of it: it may be what was sealed.
func (g *guard) checkChanges(req proto.Message) error {
	r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !ok {
		return nil
	}
	for _, command := range r.GetCommands() {
		if g.foreignChanges(command.GetUpsertWorkflowSearchAttributesCommandAttributes().GetSearchAttributes().GetIndexedFields()) {
			return onTheWire(&kms.Error{
				Class: kms.Denied, Op: "send the search attribute " + changeAttribute,
				Detail: "a version marker in the workflow's history has a change ID or a version that no workflow.GetVersion of this program names, and the SDK would send it in plaintext",
				Advice: "if the code of an earlier release named it, list it in codec.Config.RetiredChanges, as the attribute has it in such workflows; if none did, the history was altered",
			})
		}
	}
	return nil
}

// withoutForeignChanges returns req, or a copy in which the children and the next run inherit no
// change that the program does not name.
func (g *guard) withoutForeignChanges(req proto.Message) proto.Message {
	r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !ok || !slices.ContainsFunc(r.GetCommands(), func(c *commandpb.Command) bool { return g.foreignChanges(inherited(c)) }) {
		return req
	}
	r = proto.CloneOf(r)
	for _, command := range r.GetCommands() {
		if attributes := inherited(command); g.foreignChanges(attributes) {
			delete(attributes, changeAttribute)
		}
	}
	return r
}

// inherited returns the search attributes with which a command starts a workflow.
func inherited(c *commandpb.Command) map[string]*commonpb.Payload {
	if child := c.GetStartChildWorkflowExecutionCommandAttributes(); child != nil {
		return child.GetSearchAttributes().GetIndexedFields()
	}
	return c.GetContinueAsNewWorkflowExecutionCommandAttributes().GetSearchAttributes().GetIndexedFields()
}

// foreignChanges reports whether search attributes name a change that the program does not.
func (g *guard) foreignChanges(attributes map[string]*commonpb.Payload) bool {
	p, has := attributes[changeAttribute]
	if !has {
		return false
	}
	entries, ok := changesIn(p)
	return !ok || slices.ContainsFunc(entries, func(entry string) bool { return !g.codec.changes.knows(entry) })
}

// changeNamer notes the changes that workflow code names. It stands next to the SDK, so that it
// sees what other interceptors name too. It implements interceptor.WorkerInterceptor for all
// workers of a client.
type changeNamer struct {
	interceptor.InterceptorBase
	changes *changes
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (n *changeNamer) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &changeInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}, n.changes}
}

type changeInbound struct {
	interceptor.WorkflowInboundInterceptorBase
	changes *changes
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (i *changeInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&changeOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: outbound}, i.changes})
}

type changeOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	changes *changes
}

// GetVersion implements interceptor.WorkflowOutboundInterceptor.
func (o *changeOutbound) GetVersion(ctx workflow.Context, changeID string, minSupported, maxSupported workflow.Version) workflow.Version {
	o.changes.name(changeID, versions{minSupported, maxSupported})
	return o.Next.GetVersion(ctx, changeID, minSupported, maxSupported)
}

// GetVersionWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (o *changeOutbound) GetVersionWithOptions(ctx workflow.Context, changeID string, minSupported, maxSupported workflow.Version, options workflow.GetVersionOptions) workflow.Version {
	o.changes.name(changeID, versions{minSupported, maxSupported})
	return o.Next.GetVersionWithOptions(ctx, changeID, minSupported, maxSupported, options)
}
