package envelope

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// handOf returns n new keys in a stock, which age after a minute and have a grace of
// ten more.
func stockOf(maxPayloads, n int, now time.Time) (*stock, []*sealingKey) {
	s := &stock{limits: DataKeyLimits{MaxPayloads: maxPayloads, SealGrace: 10 * time.Minute}.withDefaults()}
	keys := make([]*sealingKey, n)
	for i := range keys {
		until := now.Add(time.Minute)
		keys[i] = &sealingKey{key: newDataKey(), until: until, graceUntil: until.Add(s.limits.SealGrace)}
	}
	s.add(keys)
	return s, keys
}

func (k *sealingKey) wiped() bool { return k.key.b == [kms.DataKeySize]byte{} }

func countWiped(keys []*sealingKey) (n int) {
	for _, k := range keys {
		if k.wiped() {
			n++
		}
	}
	return n
}

// A key is wiped when its grace is over, and not before the last caller that seals with it
// is done.
func TestStockWipesWhatIsOver(t *testing.T) {
	now := time.Now()
	s, keys := stockOf(1000, 2, now)
	g, ok := s.take([]int{1, 1}, false)
	if !ok || g.aged != 0 {
		t.Fatalf("got %+v, %v", g, ok)
	}
	if unused := s.expire(now.Add(time.Minute)); unused != 1 {
		t.Errorf("%d keys aged unused, want 1", unused)
	}
	if _, ok := s.take([]int{1}, false); ok || countWiped(keys) != 0 {
		t.Errorf("a key past its age was given without an outage, or %d are wiped", countWiped(keys))
	}
	s.expire(now.Add(11*time.Minute - 1))
	late, ok := s.take([]int{1}, true)
	if !ok || late.aged != 1 || late.keys[0] != keys[0] {
		t.Errorf("in its grace: %+v, %v", late, ok)
	}
	s.expire(now.Add(11 * time.Minute))
	if _, ok := s.take([]int{1}, true); ok {
		t.Error("a key past its grace was given")
	}
	if keys[0].wiped() || !keys[1].wiped() {
		t.Errorf("wiped: %v and %v, want only the one without a lease", keys[0].wiped(), keys[1].wiped())
	}
	for _, k := range append(g.keys, late.keys...) {
		k.release()
	}
	if !keys[0].wiped() {
		t.Error("not wiped though no caller seals with it any more")
	}
	if !s.nextExpiry.IsZero() {
		t.Errorf("an empty stock has something to expire at %s", s.nextExpiry)
	}
}

func TestStockWipesWhatIsForgotten(t *testing.T) {
	now := time.Now()
	s, keys := stockOf(1000, 1, now)
	s.expire(now.Add(time.Minute))
	_, more := stockOf(1000, 2, now.Add(time.Minute))
	s.add(more)
	g, _ := s.take([]int{1}, false)
	s.retireAll()
	if countWiped(keys) != 1 || countWiped(more) != 1 {
		t.Errorf("%d and %d wiped", countWiped(keys), countWiped(more))
	}
	if _, ok := s.take([]int{1}, true); ok {
		t.Error("there is something left")
	}
	g.keys[0].release()
	if countWiped(more) != 2 {
		t.Error("not wiped though no caller seals with it any more")
	}
}

// However long a KMS answers, no more keys past their age are kept than within it.
func TestStockKeepsFewAged(t *testing.T) {
	for _, tc := range []struct{ maxPayloads, each, most int }{{1, 100, maxReady + 1}, {1000, 1, 2}} {
		var all []*sealingKey
		now := time.Now()
		s, _ := stockOf(tc.maxPayloads, 0, now)
		for range 9 {
			_, keys := stockOf(tc.maxPayloads, tc.each, now)
			s.add(keys)
			all = append(all, keys...)
			now = now.Add(time.Minute)
			s.expire(now)
		}
		if len(s.aged) != tc.most || countWiped(all) != len(all)-tc.most {
			t.Errorf("%d past their age, want %d; %d of %d wiped", len(s.aged), tc.most, countWiped(all), len(all))
		}
		if all[len(all)-1].wiped() || !all[0].wiped() {
			t.Error("not the oldest ones went first")
		}
	}
}

// Keys within their age seal first, then the oldest past it.
func TestStockOrder(t *testing.T) {
	now := time.Now()
	s, first := stockOf(2, 2, now)
	s.take([]int{1}, false)
	s.expire(now.Add(time.Minute))
	_, second := stockOf(2, 1, now.Add(time.Minute))
	s.add(second)
	g, ok := s.take(make([]int, 5), true)
	if !ok || g.aged != 3 {
		t.Fatalf("got %+v, %v", g, ok)
	}
	for i, want := range []*sealingKey{second[0], second[0], first[0], first[1], first[1]} {
		if g.keys[i] != want {
			t.Errorf("payload %d: another key", i)
		}
	}
	if _, ok := s.take([]int{1}, true); ok {
		t.Error("a key sealed more than it may")
	}
}

// Every class of error has its row in the table of what a failed wrap means.
func TestEffectOf(t *testing.T) {
	want := map[kms.Class]effect{
		kms.Unavailable: allowGrace, kms.Throttled: allowGrace,
		kms.Denied: dropKeys, kms.Disabled: dropKeys, kms.NotFound: dropKeys,
		kms.Corrupt: keepKeys, kms.Internal: keepKeys, kms.Invalid: keepKeys, kms.Canceled: keepKeys,
	}
	for _, class := range kms.Classes() {
		got, ok := want[class]
		if !ok || effectOf(&kms.Error{Class: class}) != got {
			t.Errorf("%s: %d, want %d (%v)", class, effectOf(&kms.Error{Class: class}), got, ok)
		}
	}
}
