package envelope

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// inHand returns the data keys that a sealer has in hand, all contexts together.
func (s *Sealer) inHand() (keys []*sealingKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools.Values() {
		p.mu.Lock()
		keys = append(append(keys, p.stock.fresh...), p.stock.aged...)
		p.mu.Unlock()
	}
	return keys
}

// Unused data keys are wiped at the end of their time, to the nanosecond: that of their
// age, or of their grace.
func TestSweep(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits DataKeyLimits
		seals  int
		lacks  bool // a recipient
		life   time.Duration
	}{
		{"shared", DataKeyLimits{MaxPayloads: 1000, MaxAge: time.Minute}, 1, false, time.Minute},
		{"shared, with grace", DataKeyLimits{MaxPayloads: 1000, MaxAge: time.Minute, SealGrace: time.Hour}, 1, false, 61 * time.Minute},
		{"wrapped ahead, with grace", DataKeyLimits{MaxAge: time.Minute, SealGrace: time.Hour}, 200, false, 61 * time.Minute},
		{"without a recipient", DataKeyLimits{MaxPayloads: 1000, MaxAge: time.Minute, SealGrace: time.Hour}, 1, true, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
				s, err := NewSealer(SealerConfig{Keys: []kms.Key{a, b}, Recipients: PrimaryRecipient, Limits: tc.limits})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if tc.lacks {
					b.Disable()
				}
				for range tc.seals {
					if _, err := s.Seal(t.Context(), Claims{Namespace: "n"}, []byte("x")); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				keys := s.inHand()
				if len(keys) == 0 {
					t.Fatal("no data key in hand: the test shows nothing")
				}
				<-time.After(tc.life - 1)
				synctest.Wait()
				if n := countWiped(keys); n > 0 || len(s.inHand()) != len(keys) {
					t.Errorf("%d of %d were wiped before their time, %d are in hand", n, len(keys), len(s.inHand()))
				}
				<-time.After(1)
				synctest.Wait()
				if n := countWiped(keys); n != len(keys) || len(s.inHand()) > 0 {
					t.Errorf("%d of %d were wiped, %d are in hand", n, len(keys), len(s.inHand()))
				}
			})
		})
	}
}

// What is made before the sweeper was to fire for others does not wait for it.
func TestSweepSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
		s, err := NewSealer(SealerConfig{Keys: []kms.Key{a, b}, Recipients: PrimaryRecipient, Limits: DataKeyLimits{MaxPayloads: 2, MaxAge: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		seal := func() {
			if _, err := s.Seal(t.Context(), Claims{Namespace: "n"}, []byte("x")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		seal()
		b.Disable()
		seal()
		seal()
		keys := s.inHand()
		<-time.After(5 * time.Second)
		synctest.Wait()
		if n := countWiped(keys); len(keys) == 0 || n != len(keys) {
			t.Errorf("%d of %d were wiped", n, len(keys))
		}
	})
}
