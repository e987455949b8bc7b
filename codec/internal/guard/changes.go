package guard

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
	"go.temporal.io/sdk/workflow"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/internal/payloadwalk"
	"github.com/waxseal/waxseal/kms"
)

// The SDK opens the change ID and the version in each version marker of a history. At the next
// new workflow.GetVersion it writes all of them in plaintext into a search attribute. A server
// that puts any sealed string and any sealed integer of the namespace into a marker would read
// both.
//
// So the guard lets an entry "<id>-<version>" of that attribute leave only if this program's
// code names the ID and the version. It refuses a completion with another entry, and the task
// fails. If a child or the next run would only inherit such an entry, the guard removes the
// attribute from the command instead: nothing needs it there.

const (
	// changeAttribute is the search attribute that the SDK writes change IDs into.
	changeAttribute = "TemporalChangeVersion"
	// maxChanges bounds the change IDs that are remembered. The attribute of one workflow has
	// at most 2,048 bytes, which is some hundred IDs. A task with an evicted ID fails once:
	// then the workflow is replayed, and its code names all of its IDs again.
	maxChanges = 10_000
)

// versions is a range of versions of a change.
type versions struct{ min, max workflow.Version }

// Changes knows the change IDs that workflow code names, in all workers of a Codec, each with
// the widest range of versions. It is safe for concurrent use.
type Changes struct {
	retired map[string]bool // see Config.RetiredChanges

	mu    sync.Mutex
	named *simplelru.LRU[string, versions]
}

// NewChanges returns an error of Class Internal if an entry of retired does not have the form
// of the search attribute.
func NewChanges(retired []string) (*Changes, error) {
	named, _ := simplelru.NewLRU[string, versions](maxChanges, nil) // it fails only for a size below one
	c := &Changes{retired: make(map[string]bool, len(retired)), named: named}
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

// Name notes that workflow code names a change, in a range of versions.
func (c *Changes) Name(id string, from, to workflow.Version) {
	in := versions{from, to}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.named.Get(id); ok {
		in = versions{min(known.min, in.min), max(known.max, in.max)}
	}
	c.named.Add(id, in)
}

// knows reports whether an entry of the search attribute comes from the program.
func (c *Changes) knows(entry string) bool {
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

// split is one possible meaning of an entry of the search attribute.
type split struct {
	id      string
	version workflow.Version
}

// splitChange returns the possible meanings of "<id>-<version>": "a--1" is version -1 of "a",
// or version 1 of "a-". A version has the SDK's form: no plus sign, no leading zero.
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

// changesIn returns the entries of the search attribute. It returns false unless the payload is
// exactly what the SDK or the server writes for a list of strings: JSON in another form could
// carry more.
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

// searchAttributes refuses the completion of a task with a change that the program does not
// name. Where a child or the next run would only inherit the change, it plans to remove the
// attribute instead. The error quotes nothing of the change, which may be a value that was
// sealed.
func (w *planner) searchAttributes(at *payloadwalk.At, a *commonpb.SearchAttributes) error {
	if _, completes := w.req.(*workflowservice.RespondWorkflowTaskCompletedRequest); !completes || !w.foreignChanges(a.GetIndexedFields()) {
		return nil
	}
	switch at.Parent().(type) {
	case *commandpb.StartChildWorkflowExecutionCommandAttributes, *commandpb.ContinueAsNewWorkflowExecutionCommandAttributes:
		w.out.attributes = append(w.out.attributes, at.Place())
		return nil
	}
	return &kms.Error{
		Class: kms.Denied, Op: "send the search attribute " + changeAttribute,
		Detail: "a version marker in the workflow's history has a change ID or a version that no workflow.GetVersion of this program names, and the SDK would send it in plaintext",
		Advice: "if the code of an earlier release named it, list it in codec.Config.RetiredChanges, as the attribute has it in such workflows; if none did, the history was altered",
	}
}

// foreignChanges reports whether search attributes name a change that the program does not.
func (g *Guard) foreignChanges(attributes map[string]*commonpb.Payload) bool {
	p, has := attributes[changeAttribute]
	if !has {
		return false
	}
	entries, ok := changesIn(p)
	return !ok || slices.ContainsFunc(entries, func(entry string) bool { return !g.Changes.knows(entry) })
}
