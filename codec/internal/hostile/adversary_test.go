package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/codec/internal/temporaltest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// The properties that are checked.
const (
	propLeak     = "a secret leaves in the open"
	propInjected = "an injected value is taken in"
	propOracle   = "an injected value comes back sealed"
	propForeign  = "another namespace's value is taken in"
	propBound    = "another workflow's value is taken in"
	propRefusal  = "a refusal says too little or too much"
	propSurvives = "the worker does not go on"
)

// adversary is the server of all lanes. It reads every request, and has no key: it opens
// envelopes only to check them, with keys that it does not use otherwise.
type adversary struct {
	temporaltest.Answers

	addr     string
	seed     uint64
	secrets  *temporaltest.Secrets // in what honest programs send
	injected *temporaltest.Secrets // in what the adversary makes up
	open     func(*commonpb.Payload) (plaintext []byte, namespace string, err error)
	verbose  func(string)

	mu       sync.Mutex
	lanes    map[string]*lane // by namespace
	shots    map[int64]*shot  // by the number in what they inject
	next     int64
	findings map[finding]*evidence
	hits     map[string]map[string]int // how often each mutation altered "Method: path"
	ends     map[string]int            // how exchanges ended
	took     map[string]time.Duration  // and how long all of them took
}

// finding is a kind of fault, by the property that it breaks.
type finding struct{ property, place, mutation, what string }

// tail returns the end of a path: a fault counts once, however the history was delivered.
func tail(place string) string {
	parts := strings.Split(place, ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

// evidence is how often a finding occurred, and how to reproduce it.
type evidence struct {
	times int
	first string
}

func newAdversary(seed uint64) *adversary {
	return &adversary{
		seed: seed, secrets: temporaltest.NewSecrets(rand.New(rand.NewPCG(seed, 1))), injected: temporaltest.NewSecrets(rand.New(rand.NewPCG(seed, 2))),
		lanes: make(map[string]*lane), shots: make(map[int64]*shot), findings: make(map[finding]*evidence), hits: make(map[string]map[string]int), ends: make(map[string]int), took: make(map[string]time.Duration),
	}
}

// find notes a fault of a shot; a nil shot is an honest exchange.
func (a *adversary) find(property string, s *shot, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, first := finding{property: property, what: what}, "an honest exchange"
	if s != nil && a.findings[f] == nil { // an honest exchange does not show it
		f.place, f.mutation, first = tail(s.place), s.mutation, s.id()
	}
	if a.findings[f] == nil {
		a.findings[f] = &evidence{first: first}
	}
	a.findings[f].times++
}

// Receive implements temporaltest.Handler.
func (a *adversary) Receive(ctx context.Context, r temporaltest.Request) {
	l := a.laneOf(r.Message)
	if l == nil {
		return
	}
	s := l.current.Load()
	if where := a.secrets.Find([]byte(fmt.Sprint(r.Metadata))); where != "" {
		a.find(propLeak, s, r.Method+", in its gRPC metadata, "+where)
	}
	if where := a.secrets.Find(r.Raw); where != "" {
		a.find(propLeak, s, r.Method+", "+where+l.whereIn(r.Message))
	}
	a.openAll(l, r)
	l.refusedTask(r.Message)
	if t, ok := r.Message.(interface{ GetTaskToken() []byte }); ok && strings.HasPrefix(r.Method, "Respond") {
		select {
		case l.answers <- answer{token: string(t.GetTaskToken()), method: r.Method, req: r.Message}:
		default:
		}
	}
	_ = ctx
}

// whereIn names the fields of a request in which a secret stands in the open.
func (l *lane) whereIn(m proto.Message) string {
	var out []string
	_ = temporaltest.EachPayload(m.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		if l.adversary.secrets.Find(p.GetData()) != "" && !slices.Contains(out, field) {
			out = append(out, field)
		}
		return nil
	})
	if len(out) == 0 {
		return ""
	}
	return " in " + strings.Join(out, ", ")
}

// openAll opens the envelopes of a request, and looks for values that must not be in them.
func (a *adversary) openAll(l *lane, r temporaltest.Request) {
	_ = temporaltest.EachPayload(r.Message.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		a.look(l, r.Method+" in "+field, p)
		return nil
	})
}

// leaves checks a payload that leaves in another way than in a request.
func (a *adversary) leaves(l *lane, where string, p *commonpb.Payload) {
	if how := a.secrets.Find([]byte(p.String())); how != "" {
		a.find(propLeak, l.current.Load(), where+", "+how)
	}
	a.look(l, where, p)
}

// look opens a payload, and looks for values that must not be in it.
func (a *adversary) look(l *lane, where string, p *commonpb.Payload) {
	plaintext, namespace, err := a.open(p)
	if err != nil {
		return // a payload that does not open proves nothing
	}
	if l.variant.sealed {
		for _, c := range a.injected.All(plaintext) {
			a.find(propOracle, l.byCanary(c), where)
		}
	}
	if namespace == l.namespace() {
		for _, c := range a.secrets.All(plaintext) {
			if numberOf(c) == 1000*(l.n+1)+foreignScene {
				a.find(propForeign, l.current.Load(), "it comes back sealed for this namespace: "+where)
			}
		}
	}
}

// opened returns the text of a request with all its payloads opened, for the investigation of a
// failure.
func (l *lane) opened(m proto.Message) string {
	if m == nil {
		return ""
	}
	out := string(m.ProtoReflect().Descriptor().Name())
	_ = temporaltest.EachPayload(m.ProtoReflect(), "", func(field string, p *commonpb.Payload) error {
		if b, _, err := l.adversary.open(p); err == nil {
			out += fmt.Sprintf("\n%s: %q", field, b)
		}
		return nil
	})
	return out
}

func (a *adversary) laneOf(req proto.Message) *lane {
	var namespace string
	switch r := req.(type) {
	case interface{ GetNamespace() string }:
		namespace = r.GetNamespace()
	case interface{ GetId() string }: // an endpoint of Nexus has no namespace: the lane's stands there
		namespace = r.GetId()
	case interface{ GetName() string }:
		namespace = r.GetName()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lanes[namespace]
}

// Answer implements temporaltest.Handler.
func (a *adversary) Answer(ctx context.Context, req proto.Message) (proto.Message, error) {
	if l := a.laneOf(req); l != nil {
		method := strings.TrimSuffix(string(req.ProtoReflect().Descriptor().Name()), "Request")
		if response, armed, err := l.takeArmed(method); armed {
			return response, err
		}
	}
	reply, err := a.Answers.Answer(ctx, req)
	if info, ok := reply.(*workflowservice.GetSystemInfoResponse); ok {
		info.Capabilities.EagerWorkflowStart = true
	}
	return reply, err
}

// errOver is the response to later polls than the one with the altered response.
var errOver = status.Error(codes.NotFound, "there is no more")

// hit counts an altered response.
func (a *adversary) hit(s *shot, path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := s.scene.method + ": " + path
	if a.hits[key] == nil {
		a.hits[key] = make(map[string]int)
	}
	a.hits[key][s.mutation]++
}

func (a *adversary) ended(how string, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[how]++
	a.took[how] += took
}

// begin registers a shot under the value that it injects.
func (a *adversary) begin(s *shot) (injected string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	a.shots[a.next] = s
	return a.injected.Of(int(a.next), "injected")
}

// policyOf returns the policy file of a lane.
func policyOf(l *lane) string {
	return fmt.Sprintf("keys: {a: {uri: \"fake://hostile%d\"}}\nseal: [{match: {namespace: \"*\"}, keys: [a]%s}]\n", l.n, l.variant.rule)
}

func newCodec(t *testing.T, yaml string, backend *kmstest.Backend) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("hostile.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// openLane starts the client and the worker of a lane, and records its scenes.
func (a *adversary) openLane(t *testing.T, n int, v variant, backend *kmstest.Backend) *lane {
	t.Helper()
	l := &lane{n: n, variant: v, adversary: a, answers: make(chan answer, 1000)}
	if v.plain {
		l.dc = samplesConverter()
		l.far, l.own = l.dc, l.dc
		l.fc = samplesFailures(l.dc)
	} else {
		l.codec = newCodec(t, policyOf(l), backend)
		peer := newCodec(t, policyOf(l), backend)
		l.dc, l.far = codec.NewDataConverter(peer, l.namespace(), nil), codec.NewDataConverter(peer, l.foreignNamespace(), nil)
		l.own = codec.NewDataConverter(l.codec, l.namespace(), nil)
		l.fc = func(sc converter.SerializationContext) converter.FailureConverter {
			dc := l.dc
			if sc != nil {
				dc = converter.WithDataConverterSerializationContext(dc, sc)
			}
			return codec.NewFailureConverter(dc)
		}
	}
	if v.stores {
		l.means.storage = &storage{lane: l}
	}
	a.mu.Lock()
	a.lanes[l.namespace()] = l
	a.mu.Unlock()
	var err error
	if l.client, err = client.DialContext(t.Context(), l.options()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	if err := l.startWorker(); err != nil {
		t.Fatal(err)
	}
	if err := l.recordScenes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// recordScenes records all scenes of a lane, and collects the means of its adversary.
func (l *lane) recordScenes(ctx context.Context) error {
	kinds := sortedKeys(l.workflows())
	for i, kind := range kinds {
		if err := l.workflowScenes(ctx, i+1, kind); err != nil {
			return err
		}
	}
	for _, s := range l.scenes {
		if s.name == "Echo, task 1" {
			l.honest, l.honestScene = proto.CloneOf(s.response.(*workflowservice.PollWorkflowTaskQueueResponse)), s.n
		}
	}
	l.activityScenes(100)
	l.eagerActivity(102)
	l.nexusScenes(110)
	l.clientScenes(200)
	l.scenes = slices.DeleteFunc(l.scenes, func(s *scene) bool { return s.response == nil })
	l.gather()
	return nil
}

// pathNumber is the path of a sealed number that can replace a version.
const pathNumber = "a number"

// gather collects the envelopes that the adversary has seen.
func (l *lane) gather() {
	l.means.namespace = l.foreignNamespace()
	for _, s := range l.scenes {
		for _, p := range placesIn(s.response) {
			for _, payload := range p.payloads() {
				if p.kind != kindAttributes {
					l.means.stored = append(l.means.stored, sealedAt{proto.CloneOf(payload), s.workflow, p.path})
				}
			}
		}
	}
	l.means.stored = append(l.means.stored,
		sealedAt{l.sealOne(nil, 1), "", pathNumber},
		sealedAt{l.sealOne(converter.WorkflowSerializationContext{Namespace: l.namespace(), WorkflowID: "other"}, l.canary(otherScene, "other")), "other", "workflow"})
	for _, v := range []any{l.canary(foreignScene, "foreign"), []string{l.canary(foreignScene, "foreign-list")}} {
		p, err := l.far.ToPayload(v)
		if err != nil {
			panic(err) // the KMS is a fake that is healthy
		}
		l.means.foreign = append(l.means.foreign, sealedAt{p, "foreign", "foreign"})
	}
}

// rehearse delivers each response unchanged. A scene that fails without a mutation would prove
// nothing with one.
func (l *lane) rehearse(ctx context.Context) (problems []string) {
	l.limit = honestLimit
	defer func() { l.limit = alteredLimit }()
	for i, s := range l.scenes {
		token := fmt.Sprintf("rehearsal-%d-%d", l.n, i)
		l.drainAnswers()
		got := s.deliver(ctx, l, proto.Clone(s.response), token)
		l.disarm()
		if got.method == silent || got.method == dropped || got.method == "RespondWorkflowTaskFailed" || got.method == fails && (ours(got.why) || strings.Contains(got.why, "deadline")) {
			problems = append(problems, fmt.Sprintf("lane %d, %s: %s%s: %s", l.n, s.name, s.method, got.method, got.why+l.opened(got.req)))
		}
	}
	return problems
}

// target is a place of a scene, and a mutation that fits it.
type target struct {
	scene    *scene
	place    int // in the order of placesIn
	mutation mutation
}

// plan orders all targets so that each place comes early, and then again and again.
func (l *lane) plan(r *rand.Rand) (out []target) {
	groups := make(map[string][]target)
	for _, s := range l.scenes {
		for i, p := range placesIn(s.response) {
			for _, m := range mutations {
				if m.fits(p) {
					key := s.method + ": " + p.path
					switch {
					case isRaw(s):
						key = rawName + s.method
					case p.kind == kindHistory || p.kind == kindHeader: // a place where an event or a header can be forged
						key += ": " + m.name
					}
					groups[key] = append(groups[key], target{s, i, m})
				}
			}
		}
	}
	keys := sortedKeys(groups)
	for _, k := range keys {
		r.Shuffle(len(groups[k]), func(i, j int) { groups[k][i], groups[k][j] = groups[k][j], groups[k][i] })
	}
	for round := 0; len(keys) > 0; round++ {
		keys = slices.DeleteFunc(keys, func(k string) bool { return round >= len(groups[k]) })
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, k := range keys {
			out = append(out, groups[k][round])
		}
	}
	return out
}

// shoot delivers one altered response, and then an honest one. It reports whether the mutation
// altered anything.
func (l *lane) shoot(ctx context.Context, n int64, to target) bool {
	a := l.adversary
	s := &shot{lane: l, n: n, scene: to.scene, mutation: to.mutation.name}
	response := proto.Clone(to.scene.response)
	p := placesIn(response)[to.place]
	s.place = p.name()
	m := l.means
	m.r, m.response, m.workflow = rng(a.seed, l.n, n), response, to.scene.workflow
	m.injected = a.begin(s)
	if !to.mutation.alter(&m, p) {
		return false
	}
	if err := p.commit(); err != nil {
		panic(err) // it was unmarshalled before
	}
	a.hit(s, p.path)
	l.drainAnswers()
	l.current.Store(s)
	token := fmt.Sprintf("shot-%d-%d", l.n, n)
	began := time.Now()
	got := to.scene.deliver(ctx, l, response, token)
	a.ended(to.scene.method+": "+got.method, time.Since(began))
	l.disarm()
	l.late.Store(nil)
	if got.method == silent {
		l.late.Store(to.scene)
	}
	began = time.Now()
	l.giveTask(proto.CloneOf(l.honest), "honest-"+token, "honest-"+token)
	for after := (answer{}); after.token != "honest-"+token; {
		after = l.wait(ctx, "honest-"+token, honestLimit)
		if after.method == silent || after.token == "honest-"+token && after.method != "RespondWorkflowTaskCompleted" {
			a.find(propSurvives, s, "an honest task ends so: "+after.method)
			break
		}
	}
	a.ended("an honest task afterwards", time.Since(began))
	return true
}
