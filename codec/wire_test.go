package codec_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/waxseal/waxseal/kms/kmstest"
)

const wireLanes = 32

// wireCalls is how many calls are made. The race detector makes them ten times slower, and
// needs fewer.
func wireCalls() int {
	if underRace {
		return 2_000
	}
	return 10_000
}

// wireSeed is random, or the value of WAXSEAL_WIRE_SEED, which a failure prints.
func wireSeed(t *testing.T) uint64 {
	t.Helper()
	if s := os.Getenv("WAXSEAL_WIRE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed
	}
	return rand.Uint64()
}

// tally counts how the calls of each kind ended.
type tally struct {
	mu       sync.Mutex
	kinds    map[string]*[refused + 1]int
	problems []string
}

func (y *tally) add(c *call, how result, problems []string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.kinds[c.kind] == nil {
		y.kinds[c.kind] = new([refused + 1]int)
	}
	y.kinds[c.kind][how]++
	for _, p := range problems {
		y.problems = append(y.problems, fmt.Sprintf("lane %d, call %d, %s: %s", c.lane.n, c.n, c.kind, p))
	}
}

// Clients and workers make 10,000 calls with secrets in every value that must be sealed, over
// KMSs that fail at random. The server examines every byte and sees no secret. The secrets of
// successful calls are in envelopes.
func TestNoPlaintextOnTheWire(t *testing.T) {
	seed := wireSeed(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("WAXSEAL_WIRE_SEED=%d repeats it", seed)
		}
	})
	s := newSecrets(rand.New(rand.NewPCG(seed, 1<<32)))
	var fakes []*kmstest.Fake
	for i := range wireLanes {
		fakes = append(fakes, kmstest.NewFake(fmt.Sprint("a", i)), kmstest.NewFake(fmt.Sprint("b", i)))
	}
	server := startWireServer(t, s, openerOf(t, fakes))
	calls := clientCalls()
	maps.Copy(calls, workerCalls())
	kinds := slices.Sorted(maps.Keys(calls))
	y := &tally{kinds: make(map[string]*[refused + 1]int)}

	var wg sync.WaitGroup
	for n := range wireLanes {
		l := newLane(t, n, seed, server, fakes[2*n:2*n+2]...)
		wg.Go(func() {
			for i := n; i < wireCalls(); i += wireLanes {
				r := rand.New(rand.NewPCG(seed, uint64(1<<20+i)))
				c := &call{lane: l, n: i, kind: kinds[r.IntN(len(kinds))], r: r}
				_, c.stubborn = clientCalls()[c.kind]
				how, problems := c.run(t.Context(), calls[c.kind])
				y.add(c, how, problems)
			}
		})
	}
	wg.Wait()

	report(t, "leaks", server.Leaks())
	report(t, "problems", y.problems)
	total, enough := 0, wireCalls()/500 // of about 345 of each kind
	for _, kind := range kinds {
		n := y.kinds[kind]
		if n == nil {
			t.Errorf("%s: never done", kind)
			continue
		}
		t.Logf("%-32s %4d sent, %4d with something withheld, %4d refused", kind, n[sent], n[withheld], n[refused])
		total += n[sent] + n[withheld] + n[refused]
		if n[sent] < enough && !strings.HasPrefix(kind, "plaintext") {
			t.Errorf("%s: only %d calls succeeded: this proves little", kind, n[sent])
		}
		if n[withheld]+n[refused] < enough {
			t.Errorf("%s: only %d calls met a failing KMS: this proves little", kind, n[withheld]+n[refused])
		}
	}
	if total != wireCalls() {
		t.Errorf("%d calls, want %d", total, wireCalls())
	}
}

// Without the plugin the server sees the secrets.
func TestTheWireServerSeesPlaintext(t *testing.T) {
	s := newSecrets(rand.New(rand.NewPCG(1, 2)))
	server := startWireServer(t, s, openerOf(t, []*kmstest.Fake{kmstest.NewFake("a")}))
	cl, err := client.DialContext(t.Context(), client.Options{HostPort: server.addr, Namespace: "n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.SignalWorkflow(t.Context(), "w", "", "s", []byte(s.of(1, "signal"))); err != nil {
		t.Fatal(err)
	}
	if len(server.Leaks()) != 2 || !strings.HasPrefix(server.Leaks()[0], "SignalWorkflowExecution: in the open") || !strings.Contains(server.Leaks()[1], "input: sealed false") {
		t.Errorf("it noticed %q", server.Leaks())
	}
}

func report(t *testing.T, what string, list []string) {
	t.Helper()
	counts := make(map[string]int)
	for _, s := range list {
		counts[s]++
	}
	for i, s := range slices.Sorted(maps.Keys(counts)) {
		if i == 20 {
			t.Errorf("%s: %d more", what, len(counts)-i)
			break
		}
		t.Errorf("%s: %s (%d times)", what, s, counts[s])
	}
}
