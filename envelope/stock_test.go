package envelope

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// handOf returns n new keys in a hand, which age after a minute and have a grace of
// ten more.
func handOf(maxPayloads, n int, now time.Time) (*hand, []*sealingKey) {
	h := &hand{limits: DataKeyLimits{MaxPayloads: maxPayloads, SealGrace: 10 * time.Minute}.withDefaults()}
	keys := make([]*sealingKey, n)
	for i := range keys {
		until := now.Add(time.Minute)
		keys[i] = &sealingKey{key: newDataKey(), until: until, graceUntil: until.Add(h.limits.SealGrace)}
	}
	h.add(keys)
	return h, keys
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

// A key is wiped when its grace is over, and not before somebody who seals with it
// is done.
func TestHandWipesWhatIsOver(t *testing.T) {
	now := time.Now()
	h, keys := handOf(1000, 2, now)
	g, ok := h.take([]int{1, 1}, false)
	if !ok || g.aged != 0 {
		t.Fatalf("got %+v, %v", g, ok)
	}
	if unused := h.age(now.Add(time.Minute)); unused != 1 {
		t.Errorf("%d keys aged unused, want 1", unused)
	}
	if _, ok := h.take([]int{1}, false); ok || countWiped(keys) != 0 {
		t.Errorf("a key past its age was given without an outage, or %d are wiped", countWiped(keys))
	}
	h.age(now.Add(11*time.Minute - 1))
	late, ok := h.take([]int{1}, true)
	if !ok || late.aged != 1 || late.keys[0] != keys[0] {
		t.Errorf("in its grace: %+v, %v", late, ok)
	}
	h.age(now.Add(11 * time.Minute))
	if _, ok := h.take([]int{1}, true); ok {
		t.Error("a key past its grace was given")
	}
	if keys[0].wiped() || !keys[1].wiped() {
		t.Errorf("wiped: %v and %v, want only the one that nobody seals with", keys[0].wiped(), keys[1].wiped())
	}
	for _, k := range append(g.keys, late.keys...) {
		k.drop()
	}
	if !keys[0].wiped() {
		t.Error("not wiped though nobody seals with it any more")
	}
	if !h.due.IsZero() {
		t.Errorf("an empty hand has something due at %s", h.due)
	}
}

func TestHandWipesWhatIsForgotten(t *testing.T) {
	now := time.Now()
	h, keys := handOf(1000, 1, now)
	h.age(now.Add(time.Minute))
	_, more := handOf(1000, 2, now.Add(time.Minute))
	h.add(more)
	g, _ := h.take([]int{1}, false)
	h.empty()
	if countWiped(keys) != 1 || countWiped(more) != 1 {
		t.Errorf("%d and %d wiped", countWiped(keys), countWiped(more))
	}
	if _, ok := h.take([]int{1}, true); ok {
		t.Error("there is something left")
	}
	g.keys[0].drop()
	if countWiped(more) != 2 {
		t.Error("not wiped though nobody seals with it any more")
	}
}

// However long a KMS answers, no more keys past their age are kept than within it.
func TestHandKeepsFewAged(t *testing.T) {
	for _, tc := range []struct{ maxPayloads, each, most int }{{1, 100, maxAhead + 1}, {1000, 1, 2}} {
		var all []*sealingKey
		now := time.Now()
		h, _ := handOf(tc.maxPayloads, 0, now)
		for range 9 {
			_, keys := handOf(tc.maxPayloads, tc.each, now)
			h.add(keys)
			all = append(all, keys...)
			now = now.Add(time.Minute)
			h.age(now)
		}
		if len(h.aged) != tc.most || countWiped(all) != len(all)-tc.most {
			t.Errorf("%d past their age, want %d; %d of %d wiped", len(h.aged), tc.most, countWiped(all), len(all))
		}
		if all[len(all)-1].wiped() || !all[0].wiped() {
			t.Error("not the oldest ones went first")
		}
	}
}

// Keys within their age seal first, then the oldest past it.
func TestHandOrder(t *testing.T) {
	now := time.Now()
	h, first := handOf(2, 2, now)
	h.take([]int{1}, false)
	h.age(now.Add(time.Minute))
	_, second := handOf(2, 1, now.Add(time.Minute))
	h.add(second)
	g, ok := h.take(make([]int, 5), true)
	if !ok || g.aged != 3 {
		t.Fatalf("got %+v, %v", g, ok)
	}
	for i, want := range []*sealingKey{second[0], second[0], first[0], first[1], first[1]} {
		if g.keys[i] != want {
			t.Errorf("payload %d: another key", i)
		}
	}
	if _, ok := h.take([]int{1}, true); ok {
		t.Error("a key sealed more than it may")
	}
}

// Every class of error has its row in the table of what a failed wrap means.
func TestAftermath(t *testing.T) {
	want := map[kms.Class]aftermath{
		kms.Unavailable: sealOn, kms.Throttled: sealOn,
		kms.Denied: forget, kms.Disabled: forget, kms.NotFound: forget,
		kms.Corrupt: keep, kms.Internal: keep, kms.Canceled: keep,
	}
	for _, class := range kms.Classes() {
		got, ok := want[class]
		if !ok || after(&kms.Error{Class: class}) != got {
			t.Errorf("%s: %d, want %d (%v)", class, after(&kms.Error{Class: class}), got, ok)
		}
	}
}
