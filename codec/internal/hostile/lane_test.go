package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// lane is a client and a worker in a namespace of their own. It has one altered response under
// way at a time, so that any effect can be attributed to it.
type lane struct {
	n         int
	variant   variant
	adversary *adversary
	client    client.Client
	worker    worker.Worker
	stopOnce  sync.Once
	codec     *codec.Codec // nil in the control
	// dc and fc belong to the honest programs that communicate with this one, and far to those
	// in the other namespace.
	dc, far converter.DataConverter
	// own is the converter of a program that reads a payload directly.
	own converter.DataConverter
	fc  func(converter.SerializationContext) converter.FailureConverter

	scenes []*scene
	means  means
	// honest is the task that shows that the worker still works.
	honest      *workflowservice.PollWorkflowTaskQueueResponse
	honestScene int

	current atomic.Pointer[shot]
	// late is the scene of the previous shot if it had no answer in time: the worker may still
	// handle its task.
	late    atomic.Pointer[scene]
	answers chan answer // the worker's answers to the task under way
	limit   time.Duration

	mu    sync.Mutex
	armed map[string]*armed // by method
}

// variant is the configuration of a lane.
type variant struct {
	name string
	rule string // the rule of its policy, without match
	// sealed says that the rule has requireSealed: no plaintext may come in.
	sealed bool
	// bound says that an envelope opens only in the workflow that it was sealed for.
	bound bool
	// stores says that the client keeps all sealed payloads in external storage.
	stores bool
	// plain says that there is no guard, and that the codec is the samples' one.
	plain bool
}

// shot is one altered response.
type shot struct {
	lane     *lane
	n        int64
	scene    *scene
	place    string
	mutation string
}

// id is the value of WAXSEAL_HOSTILE that repeats only this shot.
func (s *shot) id() string { return fmt.Sprintf("%d/%d/%d", s.lane.adversary.seed, s.lane.n, s.n) }

// answer is a worker's answer to a task.
type answer struct {
	token  string
	method string
	req    proto.Message
	why    string
}

func (l *lane) namespace() string        { return fmt.Sprintf("lane%d", l.n) }
func (l *lane) foreignNamespace() string { return fmt.Sprintf("foreign%d", l.n) }
func (l *lane) taskQueue() string        { return fmt.Sprint("tasks-", l.n) }

// canary is a secret of a scene.
func (l *lane) canary(scene int, what string) string {
	return l.adversary.secrets.Of(1000*(l.n+1)+scene, what)
}

// foreignScene and otherScene are the numbers of secrets that do not belong to a scene of the
// lane.
const (
	foreignScene = 900
	otherScene   = 901
)

// sceneOf returns the number of the scene with a workflow or an activity of this ID.
func (l *lane) sceneOf(id string) int {
	for _, s := range l.scenes {
		if s.workflow == id {
			return s.n
		}
	}
	return 0
}

// saw notes values that the program received.
func (l *lane) saw(where string, values ...any) {
	for _, v := range values {
		if v == nil {
			continue
		}
		at := where
		if _, failed := v.(error); failed {
			at += ", as a failure"
		}
		l.check(at, textOf(v))
	}
}

// textOf returns all text that can be read in a value.
func textOf(v any) string {
	var b strings.Builder
	if err, ok := v.(error); ok {
		writeError(&b, err, 0)
		return b.String()
	}
	b.WriteString(describe(v))
	if j, err := json.Marshal(v); err == nil {
		b.Write(j)
	}
	return b.String()
}

// writeError writes an error, its details and its causes, as a program can read them.
func writeError(b *strings.Builder, err error, depth int) {
	fmt.Fprintln(b, err.Error())
	var detail any
	switch e := err.(type) { //nolint:errorlint // the chain is walked below
	case *temporal.ApplicationError:
		if e.HasDetails() {
			fmt.Fprintln(b, e.Details(&detail), detail)
		}
	case *temporal.CanceledError:
		if e.HasDetails() {
			fmt.Fprintln(b, e.Details(&detail), detail)
		}
	case *temporal.TimeoutError:
		if e.HasLastHeartbeatDetails() {
			fmt.Fprintln(b, e.LastHeartbeatDetails(&detail), detail)
		}
	}
	switch e := err.(type) { //nolint:errorlint // each error of the chain is looked at
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil && depth < 20 {
			writeError(b, cause, depth+1)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			if depth < 20 {
				writeError(b, cause, depth+1)
			}
		}
	}
}

// check looks in a text for values that the program must not receive.
func (l *lane) check(where, text string) {
	a := l.adversary
	if l.variant.sealed {
		for _, c := range a.injected.All([]byte(text)) {
			a.find(propInjected, l.byCanary(c), "it reaches the program: "+where)
		}
	}
	for _, c := range a.secrets.All([]byte(text)) {
		switch n := numberOf(c); {
		case n == 1000*(l.n+1)+foreignScene:
			a.find(propForeign, l.current.Load(), "it reaches the program: "+where)
		case l.variant.bound && l.strays(n%1000) && binds(where, c):
			a.find(propBound, l.current.Load(), "it reaches the program: "+where)
		}
	}
}

// binds reports whether bind compares a value in a place with the reader's own workflow.
// docs/policy.md lists the places without comparison, and the envelopes without a claim to
// compare.
func binds(where, canary string) bool {
	in := func(text string, parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
	}
	return !in(where, "header", "memo", "summary", "description", "failure", "error", "operation", "metadata", "schedule") &&
		!in(canary, "-header", "-nexus", "-operation", "-cancel-failure", "-"+unbound)
}

// strays reports whether a secret of a scene does not belong to the exchange under way.
func (l *lane) strays(n int) bool {
	s := l.current.Load()
	if s == nil || n == s.scene.n || n == s.scene.with || n == l.honestScene {
		return false
	}
	late := l.late.Load()
	return late == nil || n != late.n && n != late.with
}

func numberOf(canary string) (n int) {
	parts := strings.SplitN(canary, "-", 3)
	_, _ = fmt.Sscan(parts[1], &n)
	return n
}

// byCanary returns the shot that injected a value.
func (l *lane) byCanary(c string) *shot {
	l.adversary.mu.Lock()
	defer l.adversary.mu.Unlock()
	return l.adversary.shots[int64(numberOf(c))]
}

// options are the options of the client.
func (l *lane) options() client.Options {
	o := client.Options{
		HostPort: l.adversary.addr, Namespace: l.namespace(), Logger: logger{l}, ContextPropagators: []workflow.ContextPropagator{propagator{l}},
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: new(client.GrpcCompressionNone)}, // on loopback
	}
	if l.variant.stores {
		o.ExternalStorage = converter.ExternalStorage{Drivers: []converter.StorageDriver{l.means.storage}, PayloadSizeThreshold: 1}
	}
	if l.variant.plain {
		o.DataConverter = l.dc
		o.FailureConverter = temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: l.dc, EncodeCommonAttributes: true})
	} else {
		o.Plugins = []client.Plugin{codec.NewPlugin(l.codec)}
	}
	return o
}

// logger notices tasks that the SDK drops silently.
type logger struct{ lane *lane }

var _ log.Logger = logger{}

func (logger) Debug(string, ...any)              {}
func (l logger) Info(message string, kv ...any)  { l.look(message, kv) }
func (l logger) Warn(message string, kv ...any)  { l.look(message, kv) }
func (l logger) Error(message string, kv ...any) { l.look(message, kv) }

func (l logger) look(message string, kv []any) {
	if testing := l.lane.adversary.verbose; testing != nil {
		testing(fmt.Sprint("lane ", l.lane.n, ": ", message, " ", kv))
	}
	if strings.HasPrefix(message, "Task processing failed with") || strings.HasPrefix(message, "Unhandled panic") || message == "Activity panic." {
		l.lane.answers <- answer{method: dropped}
	}
}

const (
	dropped = "the SDK drops the task"
	silent  = "there is no answer"
)

// arm sets the response to the next request of a method, in place of the honest one. If then is
// an error, later requests get it.
func (l *lane) arm(method string, response proto.Message, then error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.armed == nil {
		l.armed = make(map[string]*armed)
	}
	l.armed[method] = &armed{response, then}
}

// armed is the response set for a method.
type armed struct {
	response proto.Message
	then     error
}

// disarm removes the responses that no request fetched.
func (l *lane) disarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.armed)
}

func (l *lane) takeArmed(method string) (response proto.Message, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.armed[method]
	switch {
	case a == nil || a.response == nil && a.then == nil:
		return nil, false, nil
	case a.response == nil:
		return nil, true, a.then
	}
	response, a.response = a.response, nil
	return response, true, nil
}

// wait returns the worker's answer to a task.
func (l *lane) wait(ctx context.Context, token string, limit time.Duration) answer {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case a := <-l.answers:
			if a.token == token || a.method == dropped {
				return a
			}
		case <-timer.C:
			return answer{method: silent}
		case <-ctx.Done():
			return answer{method: silent}
		}
	}
}

func (l *lane) drainAnswers() {
	for {
		select {
		case <-l.answers:
		default:
			return
		}
	}
}

// seal returns a value as another honest program of the namespace sends it.
func (l *lane) seal(sc converter.SerializationContext, values ...any) *commonpb.Payloads {
	dc := l.dc
	if sc != nil {
		dc = converter.WithDataConverterSerializationContext(dc, sc)
	}
	out, err := dc.ToPayloads(values...)
	if err != nil {
		panic(err) // the KMS is a fake that is healthy
	}
	return out
}

func (l *lane) sealOne(sc converter.SerializationContext, value any) *commonpb.Payload {
	return l.seal(sc, value).GetPayloads()[0]
}

// header returns a header with a secret.
func (l *lane) header(scene int, what string) *commonpb.Header {
	return &commonpb.Header{Fields: map[string]*commonpb.Payload{headerOwn: l.sealOne(nil, l.canary(scene, what))}}
}

// failure returns an error as another honest program of the namespace sends it.
func (l *lane) failure(sc converter.SerializationContext, err error) *failurepb.Failure {
	return l.fc(sc).ErrorToFailure(err)
}

// refused checks the error of a client call.
func (l *lane) refused(err error) {
	s, a := l.current.Load(), l.adversary
	if err == nil || s == nil {
		return
	}
	classed, refusals := false, []string(nil)
	if e, ok := errors.AsType[*kms.Error](err); ok {
		classed = true
		if e.Hint() == "" {
			a.find(propRefusal, s, "an error of ours has no hint: "+e.Error())
		}
	}
	for _, text := range links(err, 0) {
		if !l.variant.plain && !ours(text) {
			continue
		}
		refusals = append(refusals, text)
		if a.secrets.Find([]byte(text)) != "" {
			a.find(propRefusal, s, "an error of ours holds a secret")
		}
		if len(a.injected.All([]byte(text))) > 0 {
			a.find(propRefusal, s, "an error of ours quotes what the adversary wrote")
		}
		if strings.ContainsAny(text, "\n\r\u202e") {
			a.find(propRefusal, s, "an error of ours has line breaks in it")
		}
	}
	if !classed && len(refusals) > 0 && !slices.ContainsFunc(refusals, namesClass) {
		a.find(propRefusal, s, "an error of ours has no class: "+refusals[0])
	}
}

// refusedTask checks a worker's answer that refuses a task.
func (l *lane) refusedTask(req proto.Message) {
	s, a := l.current.Load(), l.adversary
	var texts []string
	var failure *failurepb.Failure
	switch r := req.(type) {
	case *workflowservice.RespondWorkflowTaskFailedRequest:
		failure = r.GetFailure()
	case *workflowservice.RespondActivityTaskFailedRequest:
		failure = r.GetFailure()
	case *workflowservice.RespondNexusTaskFailedRequest:
		failure = r.GetFailure()
	case *workflowservice.RespondQueryTaskCompletedRequest:
		failure, texts = r.GetFailure(), []string{r.GetErrorMessage()}
	}
	for link := failure; link != nil; link = link.GetCause() {
		texts = append(texts, link.GetMessage())
		var opened commonpb.Payload
		if b, _, err := a.open(link.GetEncodedAttributes()); err == nil && proto.Unmarshal(b, &opened) == nil {
			texts = append(texts, string(opened.GetData()))
		}
	}
	texts = slices.DeleteFunc(texts, func(text string) bool { return !ours(text) })
	if s == nil || len(texts) == 0 {
		return
	}
	if !slices.ContainsFunc(texts, namesClass) { // the outermost text is enough
		a.find(propRefusal, s, "a refusal of ours has no class: "+texts[0])
	}
	for _, text := range texts {
		if strings.ContainsAny(text, "\r\u202e") {
			a.find(propRefusal, s, "a refusal of ours has line breaks in it")
		}
	}
}

// namesClass reports whether a text names a class. It is for errors that gRPC or a failure
// carried as text only.
func namesClass(text string) bool {
	return slices.ContainsFunc(kms.Classes(), func(c kms.Class) bool { return strings.Contains(text, c.String()) })
}

// links returns the texts of an error and of its causes, each without the text of the others.
func links(err error, depth int) []string {
	if err == nil || depth > 20 {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, links(e, depth+1)...)
		}
		return out
	}
	cause := errors.Unwrap(err)
	if app, ok := err.(*temporal.ApplicationError); ok { //nolint:errorlint // each link is looked at
		return append(links(cause, depth+1), app.Message())
	}
	if cause == nil {
		return []string{err.Error()}
	}
	return append(links(cause, depth+1), strings.TrimSuffix(err.Error(), cause.Error()))
}

// ours reports whether a text comes from Waxseal.
func ours(text string) bool {
	return slices.ContainsFunc([]string{"waxseal: ", "codec: ", "kms: "}, func(from string) bool { return strings.Contains(text, from) })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func rng(seed uint64, lane int, n int64) *rand.Rand {
	return rand.New(rand.NewPCG(seed^uint64(lane)<<40, uint64(n)))
}
