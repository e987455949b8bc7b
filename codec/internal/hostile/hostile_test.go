package hostile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/codec/internal/temporaltest"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// variants are how lanes are set up, one after the other.
var variants = []variant{
	{name: "requireSealed", rule: ", requireSealed: true, sealHeaders: true", sealed: true},
	{name: "requireSealed and onDenied: fail", rule: ", requireSealed: true, sealHeaders: true, onDenied: fail, claims: [workflowId]", sealed: true},
	{name: "bind", rule: ", requireSealed: true, sealHeaders: true, bind: [workflowId]", sealed: true, bound: true},
	{name: "without requireSealed", rule: ", sealHeaders: true"},
	{name: "requireSealed and external storage", rule: ", requireSealed: true, sealHeaders: true", sealed: true, stores: true},
}

// TestHostileServer alters responses in every way. It checks that no secret leaves, and that
// nothing comes in that the program did not make.
func TestHostileServer(t *testing.T) {
	a, only := arena(t)
	a.attack(t, only, variants, countOf(t), func() bool { return true })
	a.table(t)
	for _, line := range a.faults() {
		t.Error(line)
	}
	if only == nil {
		a.missed(t)
	}
}

// TestTheAdversaryIsAble alters the same responses against the codec of Temporal's samples,
// without a guard: an adversary that finds nothing there would prove nothing elsewhere.
func TestTheAdversaryIsAble(t *testing.T) {
	a, only := arena(t)
	controls := countControl
	if underRace {
		controls = countControlRace
	}
	properties := []string{propLeak, propInjected, propOracle, propForeign, propBound, propRefusal}
	a.attack(t, only, []variant{{name: "the samples' codec", plain: true, sealed: true, bound: true}}, controls, func() bool {
		found := a.found()
		return !slices.ContainsFunc(properties, func(property string) bool { return found[property] == 0 })
	})
	found := a.found()
	for _, property := range properties {
		t.Logf("%6d times: %s", found[property], property)
		if found[property] == 0 && only == nil {
			t.Errorf("the samples' codec stands up to it: %s", property)
		}
	}
}

// found returns how often each property was broken.
func (a *adversary) found() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := make(map[string]int)
	for f, e := range a.findings {
		found[f.property] += e.times
	}
	return found
}

// arena returns a listening adversary, and the one shot to repeat, if any.
func arena(t *testing.T) (*adversary, *repeat) {
	t.Helper()
	seed, only := seedOf(t)
	a := newAdversary(seed)
	if os.Getenv("WAXSEAL_HOSTILE_LOG") != "" {
		a.verbose = func(s string) { fmt.Fprintln(os.Stderr, s) }
	}
	a.addr = temporaltest.Listen(t, a)
	return a, only
}

// lanesUsual and lanesRace are how many programs are attacked at a time. Each is rehearsed as a
// whole first, which takes most of the time under the race detector.
const (
	lanesUsual = 8
	lanesRace  = 2
)

func lanesOf() int {
	if underRace {
		return lanesRace
	}
	return lanesUsual
}

// attack alters count responses, in lanes with these variants in turn, and up to ten times as many
// until it is enough: the responses are chosen at random.
func (a *adversary) attack(t *testing.T, only *repeat, variants []variant, count int, enough func() bool) {
	t.Helper()
	var fakes []*kmstest.Fake
	lanes := lanesOf()
	for n := range lanes {
		fakes = append(fakes, kmstest.NewFake(fmt.Sprint("hostile", n)))
	}
	backend := kmstest.NewBackend(fakes...)
	a.open = opener(t, fakes)
	if variants[0].plain {
		a.open = samplesOpener(newSamplesCodec())
	}
	defer a.stop()
	var wg sync.WaitGroup
	var fired atomic.Int64
	for n := range lanes {
		if only != nil && only.lane != n {
			continue
		}
		l := a.openLane(t, n, variants[n%len(variants)], backend)
		wg.Go(func() {
			for _, problem := range l.rehearse(t.Context()) {
				t.Errorf("without a mutation: %s", problem)
			}
			plan := l.plan(rand.New(rand.NewPCG(a.seed, uint64(n))))
			t.Logf("lane %d, %s: %d scenes, %d targets", n, l.variant.name, len(l.scenes), len(plan))
			if only != nil {
				l.shoot(t.Context(), only.shot, plan[only.shot%int64(len(plan))])
				return
			}
			for i := int64(0); fired.Load() < int64(count) || fired.Load() < 10*int64(count) && !enough(); i++ {
				if l.shoot(t.Context(), i, plan[i%int64(len(plan))]) {
					a.progress(fired.Add(1), int64(count))
				}
			}
		})
	}
	wg.Wait()
}

// stop stops all workers, together: each waits for its polls to end.
func (a *adversary) stop() {
	a.mu.Lock()
	lanes := slices.Collect(maps.Values(a.lanes))
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range lanes {
		if l.worker != nil {
			wg.Go(func() { l.stopOnce.Do(l.worker.Stop) })
		}
	}
	wg.Wait()
}

// opener opens with healthy keys, regardless of a lane's policy.
func opener(t *testing.T, fakes []*kmstest.Fake) func(*commonpb.Payload) ([]byte, string, error) {
	t.Helper()
	var keys []string
	handles := make([]*kmstest.Fake, len(fakes))
	for i, f := range fakes {
		keys = append(keys, fmt.Sprintf("k%d: {uri: %q}", i, f.ID()))
		handles[i] = f.Reopen()
	}
	c := newCodec(t, "keys: {"+strings.Join(keys, ", ")+"}\nseal: [{match: {namespace: \"*\"}, keys: [k0]}]\n", kmstest.NewBackend(handles...))
	return func(p *commonpb.Payload) ([]byte, string, error) {
		d := c.Decode(t.Context(), codec.DecodeOptions{}, []*commonpb.Payload{p})[0]
		if d.Err != nil || !d.Sealed {
			return nil, "", fmt.Errorf("sealed %v: %w", d.Sealed, d.Err)
		}
		b, err := proto.Marshal(d.Payload)
		return b, d.Namespace, err
	}
}

// repeat is the one shot that WAXSEAL_HOSTILE names.
type repeat struct {
	lane int
	shot int64
}

// seedOf is random, or the value of WAXSEAL_HOSTILE: seed, or seed/lane/shot as a failure
// prints it.
func seedOf(t *testing.T) (seed uint64, only *repeat) {
	t.Helper()
	value := os.Getenv("WAXSEAL_HOSTILE")
	if value == "" {
		return rand.Uint64() >> 11, nil
	}
	parts := strings.Split(value, "/")
	seed, err := strconv.ParseUint(parts[0], 10, 64)
	if err == nil && len(parts) == 3 {
		only = new(repeat)
		_, err = fmt.Sscan(parts[1]+" "+parts[2], &only.lane, &only.shot)
	}
	if err != nil {
		t.Fatalf("WAXSEAL_HOSTILE=%s: %v", value, err)
	}
	return seed, only
}

// How many responses are altered. The race detector makes them many times slower, and looks for
// races of the codec, which some hundred responses find.
const (
	countUsual = 10_000
	countRace  = 100
	countShort = 300
	// countControl finds each property broken several times, as a rule.
	countControl, countControlRace = 1_000, 500
)

// countOf is how many responses are altered.
func countOf(t *testing.T) int {
	t.Helper()
	if value := os.Getenv("WAXSEAL_HOSTILE_COUNT"); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("WAXSEAL_HOSTILE_COUNT: %v", err)
		}
		return n
	}
	switch {
	case testing.Short():
		return countShort
	case underRace:
		return countRace
	}
	return countUsual
}
