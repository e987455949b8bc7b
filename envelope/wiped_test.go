package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestNothingIsSealedUnderAWipedKey lets all that wipes data keys race with sealing: age,
// the end of a grace, refusals, Drain, more contexts than pools, and Close. Each envelope
// opens with the data key that was wrapped, and each refusal is that of the KMS or of Close.
func TestNothingIsSealedUnderAWipedKey(t *testing.T) {
	for _, payloads := range []int{1, 50} {
		t.Run(fmt.Sprintf("%d payloads", payloads), func(t *testing.T) {
			key := kmstest.NewFake("a")
			opener := newOpener(t, nil, key.Reopen()) // to which the faults are nothing
			s := newSealer(t, envelope.SealerConfig{
				Limits: envelope.DataKeyLimits{MaxPayloads: payloads, MaxAge: 2 * time.Millisecond, SealGrace: 2 * time.Millisecond},
			}, key)
			const callers, calls = 8, 150
			var sealing, troubling sync.WaitGroup
			over := make(chan struct{})
			trouble := func(every time.Duration, what func(round int)) {
				troubling.Go(func() {
					for round := 0; ; round++ {
						select {
						case <-over:
							return
						case <-time.After(every):
							what(round)
						}
					}
				})
			}
			trouble(time.Millisecond, func(int) { s.Drain() })
			trouble(time.Millisecond, func(round int) {
				faults := []kmstest.Fault{kmstest.Healthy(), kmstest.Fail(kms.Denied), kmstest.Healthy(), kmstest.Slow(time.Millisecond), kmstest.Fail(kms.Unavailable)}
				key.Always(faults[round%len(faults)])
			})
			var mu sync.Mutex
			sealed, closed := 0, 0
			for caller := range callers {
				rnd := rand.New(rand.NewPCG(uint64(payloads), uint64(caller)))
				sealing.Go(func() {
					for call := range calls {
						if caller == 0 && call == calls*9/10 {
							s.Close()
						}
						c := claims
						if rnd.IntN(2) == 0 {
							c.Others = map[string]string{"n": fmt.Sprint(rnd.IntN(1500))}
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(20))*time.Millisecond)
						plaintexts := make([][]byte, 1+rnd.IntN(8))
						for i := range plaintexts {
							plaintexts[i] = make([]byte, rnd.IntN(16<<10))
						}
						out, err := s.Seal(ctx, c, plaintexts...)
						cancel()
						class := kms.ClassOf(err)
						switch {
						case err == nil:
						case errors.Is(err, envelope.ErrClosed):
							mu.Lock()
							closed++
							mu.Unlock()
							continue
						case class == kms.Denied || class == kms.Unavailable || class == kms.Canceled:
							continue
						default:
							t.Error(err)
							return
						}
						for i, opened := range opener.Open(t.Context(), items(out...)...) {
							if opened.Err != nil || len(opened.Plaintext) != len(plaintexts[i]) {
								t.Errorf("payload %d of %d does not open: %v", i, len(out), opened.Err)
							}
						}
						mu.Lock()
						sealed += len(out)
						mu.Unlock()
					}
				})
			}
			sealing.Wait()
			close(over)
			troubling.Wait()
			if sealed < callers || closed == 0 {
				t.Errorf("%d payloads were sealed, and %d calls were refused by Close: the test shows nothing", sealed, closed)
			}
			t.Logf("%d payloads were sealed, %d calls refused by Close", sealed, closed)
		})
	}
}
