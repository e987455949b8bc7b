package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Times are how long calls took, one after the other.
type Times struct {
	// Call is what was called: "wrap" or "unwrap", of one data key.
	Call string
	// Each is how long each call took, in their order. There is at least one.
	Each []time.Duration
}

// Min is the shortest.
func (t *Times) Min() time.Duration { return slices.Min(t.Each) }

// Max is the longest.
func (t *Times) Max() time.Duration { return slices.Max(t.Each) }

// Percentile returns what p percent of the calls did not exceed, by nearest rank;
// p is from 1 to 100.
func (t *Times) Percentile(p int) time.Duration {
	sorted := slices.Sorted(slices.Values(t.Each))
	rank := (p*len(sorted) + 99) / 100
	return sorted[max(rank, 1)-1]
}

// latency measures the call that the role waits for: a worker for wrapping, a
// codec server for unwrapping; the other one where that is not possible.
func (e *examination) latency(ctx context.Context) {
	t := Times{Call: "wrap"}
	if e.wrapped == nil || e.cfg.Role == CodecServer && e.opened != nil {
		t.Call = "unwrap"
	}
	switch {
	case e.cfg.Calls < 0:
		e.note(Check{Name: Latency, Status: Skip, Detail: "not asked for"})
		return
	case t.Call == "unwrap" && e.opened == nil:
		e.skip("it can neither wrap nor unwrap", Latency)
		return
	}
	dataKey := make([]byte, kms.DataKeySize)
	rand.Read(dataKey) // never fails: crypto/rand ends the process instead
	began := time.Now()
	for len(t.Each) < e.cfg.Calls && time.Since(began) < e.cfg.Timeout {
		start := time.Now()
		var err error
		if t.Call == "wrap" {
			_, err = e.wrapOne(ctx, dataKey)
		} else {
			err = e.unwrapOne(ctx, e.opened, e.opened.Context, right(e.opened))
		}
		if err != nil {
			e.fail(Latency, fmt.Sprintf("call %d of %d: ", len(t.Each)+1, e.cfg.Calls), err)
			return
		}
		t.Each = append(t.Each, time.Since(start))
	}
	e.result.Times = &t
	detail := fmt.Sprintf("%s: p50 %s, p99 %s", t.Call, Short(t.Percentile(50)), Short(t.Percentile(99)))
	switch {
	case len(t.Each) < e.cfg.Calls:
		e.warn(Latency, fmt.Sprintf("%s; only %d of %d calls in %s", detail, len(t.Each), e.cfg.Calls, e.cfg.Timeout), slowHint)
	case t.Percentile(99) > slow:
		e.warn(Latency, detail, slowHint)
	default:
		e.pass(Latency, detail)
	}
}

const slowHint = "use a KMS that is near, or let payloads share data keys (dataKey.maxPayloads): whoever has no data key at hand waits this long"

// Short writes a duration in milliseconds, with three digits that count.
func Short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}
