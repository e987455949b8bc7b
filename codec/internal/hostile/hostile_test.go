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
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/temporaltest"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// variants are how lanes are set up, one after the other.
var variants = []variant{
	{name: "requireSealed", rule: ", requireSealed: true, sealHeaders: true", sealed: true},
	{name: "requireSealed and holdWorkflows", rule: ", requireSealed: true, sealHeaders: true, holdWorkflows: true, claims: [workflowId]", sealed: true},
	{name: "without requireSealed", rule: ", sealHeaders: true"},
}

// TestHostileServer alters responses in every way, and finds that nothing leaves that
// is secret, and nothing comes in that the program did not make.
func TestHostileServer(t *testing.T) {
	seed, only := seedOf(t)
	a := newAdversary(seed)
	if os.Getenv("WAXSEAL_HOSTILE_LOG") != "" {
		a.verbose = func(s string) { fmt.Fprintln(os.Stderr, s) }
	}
	const lanes = 6
	var fakes []*kmstest.Fake
	for n := range lanes {
		fakes = append(fakes, kmstest.NewFake(fmt.Sprint("hostile", n)))
	}
	backend := kmstest.NewBackend(fakes...)
	a.open = opener(t, fakes)
	a.addr = temporaltest.Listen(t, a)
	defer a.stop()
	var wg sync.WaitGroup
	var fired atomic.Int64
	count := int64(countOf(t))
	for n := range lanes {
		if only != nil && only.lane != n {
			continue
		}
		l := a.openLane(t, n, variants[n%len(variants)], backend)
		wg.Go(func() {
			for _, problem := range l.rehearse(t.Context()) {
				t.Errorf("without a mutation: %s", problem)
			}
			plan := l.plan(rand.New(rand.NewPCG(seed, uint64(n))))
			t.Logf("lane %d, %s: %d scenes, %d targets", n, l.variant.name, len(l.scenes), len(plan))
			if only != nil {
				l.shoot(t.Context(), only.shot, plan[only.shot%int64(len(plan))])
				return
			}
			for i := int64(0); fired.Load() < count; i++ {
				if l.shoot(t.Context(), i, plan[i%int64(len(plan))]) {
					fired.Add(1)
				}
			}
		})
	}
	wg.Wait()
	a.stop()
	a.report(t)
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

// opener opens with healthy keys, whatever the policy of a lane.
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
		d := c.Decode(t.Context(), "", []*commonpb.Payload{p})[0]
		if d.Err != nil || !d.Sealed {
			return nil, "", fmt.Errorf("sealed %v: %w", d.Sealed, d.Err)
		}
		b, err := proto.Marshal(d.Payload)
		return b, d.Namespace, err
	}
}

// repeat is the one shot that WAXSEAL_HOSTILE asks for.
type repeat struct {
	lane int
	shot int64
}

// seedOf is random, or what WAXSEAL_HOSTILE says: seed, or seed/lane/shot as a failure
// prints it.
func seedOf(t *testing.T) (seed uint64, only *repeat) {
	t.Helper()
	said := os.Getenv("WAXSEAL_HOSTILE")
	if said == "" {
		return rand.Uint64() >> 11, nil
	}
	parts := strings.Split(said, "/")
	seed, err := strconv.ParseUint(parts[0], 10, 64)
	if err == nil && len(parts) == 3 {
		only = new(repeat)
		_, err = fmt.Sscan(parts[1]+" "+parts[2], &only.lane, &only.shot)
	}
	if err != nil {
		t.Fatalf("WAXSEAL_HOSTILE=%s: %v", said, err)
	}
	return seed, only
}

// countOf is how many responses are altered.
func countOf(t *testing.T) int {
	t.Helper()
	if said := os.Getenv("WAXSEAL_HOSTILE_COUNT"); said != "" {
		n, err := strconv.Atoi(said)
		if err != nil {
			t.Fatalf("WAXSEAL_HOSTILE_COUNT: %v", err)
		}
		return n
	}
	if testing.Short() {
		return 500
	}
	return 10_000
}

// report fails the test with what was found, and prints what was tried.
func (a *adversary) report(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(a.ends)) {
		t.Logf("%6d %s, in %s", a.ends[k], k, a.took[k].Round(time.Millisecond))
	}
	lines := make([]string, 0, len(a.findings))
	for f, e := range a.findings {
		lines = append(lines, fmt.Sprintf("%s: %s [%s; %s] %d times; WAXSEAL_HOSTILE=%s", f.property, f.what, f.place, f.mutation, e.times, e.first))
	}
	slices.Sort(lines)
	for _, line := range lines {
		t.Error(line)
	}
}
