package envelope_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// sealCount is how many payloads TestNothingIsUsedTwice seals: 10^7, or 10^8 in a
// soak (WAXSEAL_SOAK=1). The race detector would make that an hour, and sees in
// the first thousands what it will ever see.
func sealCount() int {
	switch {
	case os.Getenv("WAXSEAL_SOAK") == "1":
		return 100_000_000
	case underRace || testing.Short():
		return 100_000
	}
	return 10_000_000
}

// No two payloads are sealed with the same (data key, salt, nonce). It looks for
// more: no data key is made twice, and under one data key neither a salt, which
// decides the payload key, nor a nonce comes again.
func TestNothingIsUsedTwice(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // it makes garbage as fast as it can
	for _, tc := range []struct {
		maxPayloads int
		percent     int // of all seals
	}{
		{envelope.MaxPayloadsPerDataKey, 70},
		{1000, 10},
		{1, 20},
	} {
		t.Run(fmt.Sprintf("%d payloads for each data key", tc.maxPayloads), func(t *testing.T) {
			const workers, batch = 4, 100
			calls := sealCount() / 100 * tc.percent / workers / batch
			key := newCountedKey()
			s, err := envelope.NewSealer(envelope.SealerConfig{
				Keys:   []kms.Key{key},
				Limits: envelope.DataKeyLimits{MaxPayloads: tc.maxPayloads, MaxAge: envelope.MaxDataKeyAge},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			l := newLedger(key, tc.maxPayloads)
			plaintexts := make([][]byte, batch)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range calls {
						sealed, err := s.Seal(t.Context(), claims, plaintexts...)
						if err != nil {
							t.Error(err)
							return
						}
						l.add(t, sealed)
					}
				})
			}
			wg.Wait()
			want := workers * batch * calls
			l.close(t, want)
			if least, made := want/tc.maxPayloads, key.count(); made < least || made > least+least/10+100 {
				t.Errorf("%d data keys were made for %d payloads", made, want)
			}
		})
	}
}

// The search finds what it looks for.
func TestLedgerFindsRepeats(t *testing.T) {
	key := newCountedKey()
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{key}, Limits: envelope.DataKeyLimits{MaxPayloads: 3}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	sealed := mustSeal(t, s, claims, "x", "y", "z", "last")
	l := newLedger(key, 3)
	l.add(t, append(sealed[:3:3], sealed[0], sealed[3], sealed[3]))
	key.mu.Lock()
	key.digests = append(key.digests, key.digests[0])
	key.mu.Unlock()
	for number := range l.live {
		l.compare(number)
	}
	if l.over != 1 || l.salts != 1 || l.nonces != 1 || key.repeats() != 1 || l.seals != 6 {
		t.Errorf("found %d over the limit, %d salts, %d nonces, %d data keys in %d seals", l.over, l.salts, l.nonces, key.repeats(), l.seals)
	}
	a, b := mark{salt: [format.SaltSize]byte{1}}, mark{nonce: [nonceSize]byte{1}}
	l.live[0] = []mark{a, b}
	l.compare(0)
	if l.salts != 1 || l.nonces != 1 {
		t.Errorf("found %d salts and %d nonces where nothing repeats", l.salts, l.nonces)
	}
}
