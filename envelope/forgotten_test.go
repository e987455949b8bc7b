package envelope

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestNoWaiterIsForgotten makes a KMS hang, fail, refuse and be slow at random, while
// callers give up and pools are evicted. Every call returns in the time of a few wraps,
// and after Close no pool has a waiter or a data key left.
func TestNoWaiterIsForgotten(t *testing.T) {
	const callers, calls, slowest = 12, 40, 4 * DefaultWrapTimeout
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			key, chance := kmstest.NewFake("a"), rand.New(rand.NewPCG(seed, 0))
			s, err := NewSealer(SealerConfig{Keys: []kms.Key{key}, Limits: DataKeyLimits{
				MaxPayloads: []int{1, 7, 1000}[seed%3], MaxAge: 3 * time.Second, MaxBytes: 5000,
				SealGrace: time.Duration(chance.IntN(3)) * 5 * time.Second,
			}})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			key.Each(func(kmstest.Call) kmstest.Fault {
				mu.Lock()
				defer mu.Unlock()
				switch chance.IntN(8) {
				case 0:
					return kmstest.Stall()
				case 1:
					return kmstest.Fail(kms.Unavailable)
				case 2:
					return kmstest.Fail(kms.Denied)
				case 3:
					return kmstest.Fault{Latency: time.Second, Err: kmstest.Err(kms.Corrupt)}
				default:
					return kmstest.Slow(time.Duration(chance.IntN(3000)) * time.Millisecond)
				}
			})
			pools, seen, served := make(map[*pool]bool), []*sealingKey(nil), 0
			// look notes the pools and their keys, and evicts the pools if evict is set.
			look := func(evict bool) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, s.inHand()...)
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, p := range s.pools.Values() {
					pools[p] = true
				}
				if evict {
					s.pools.Purge()
				}
			}
			var work sync.WaitGroup
			for caller := range uint64(callers) {
				rnd := rand.New(rand.NewPCG(seed, 1+caller))
				work.Go(func() {
					for range calls {
						<-time.After(time.Duration(rnd.IntN(2000)) * time.Millisecond)
						ctx, cancel := context.WithCancel(t.Context())
						if rnd.IntN(2) == 0 {
							ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(4000))*time.Millisecond)
						}
						start := time.Now()
						sealed, err := s.Seal(ctx, Claims{Namespace: "n"}, make([][]byte, 1+rnd.IntN(20))...)
						cancel()
						if took := time.Since(start); took > slowest {
							t.Errorf("seed %d: an answer (%v) after %s", seed, err, took)
						}
						look(rnd.IntN(40) == 0)
						mu.Lock()
						served += len(sealed)
						mu.Unlock()
					}
				})
			}
			work.Wait()
			s.Close()
			if n := countWiped(seen); len(seen) == 0 || n != len(seen) || served == 0 {
				t.Errorf("seed %d: %d payloads were sealed, %d data keys of %d are wiped", seed, served, n, len(seen))
			}
			for p := range pools {
				if n := len(p.stock.fresh) + len(p.stock.aged); n > 0 || len(p.queue) > 0 {
					t.Errorf("seed %d: a pool has %d data keys left, and %d waiters", seed, n, len(p.queue))
				}
			}
		})
	}
}
