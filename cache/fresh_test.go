package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/cache"
)

func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		if ref := k.Fresh("a"); ref != nil {
			t.Error("something in an empty cache")
		}
		s := &secret{id: 1}
		k.Put("a", s).Release()
		ref := k.Fresh("a")
		if ref == nil || ref.Value() != s {
			t.Fatal("not the value that was put")
		}
		k.Remove("a")
		if s.wiped.Load() != 0 {
			t.Error("wiped while it is held")
		}
		ref.Release()
		if s.wiped.Load() != 1 {
			t.Error("not wiped after its last reader")
		}
		k.Put("b", &secret{id: 2}).Release()
		<-time.After(10 * time.Minute)
		if ref := k.Fresh("b"); ref != nil {
			t.Error("a value past its fresh lifetime")
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.events["hit"] != 1 || k.events["miss"]+k.events["stale"]+k.events["negative"] != 0 {
			t.Errorf("events %v, want one hit", k.events)
		}
	})
}

func TestOutcomeTellsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.Put("a", &secret{id: 1}).Release()
		get := func() cache.Outcome[*secret] {
			o := k.GetMany(t.Context(), []string{"a"}, func(context.Context, []string) []cache.Result[*secret] {
				return []cache.Result[*secret]{{Err: errDown}}
			})[0]
			o.Ref.Release()
			return o
		}
		if o := get(); o.Err != nil || o.Stale {
			t.Errorf("fresh: %+v", o)
		}
		<-time.After(11 * time.Minute)
		for _, when := range []string{"after its own load", "from memory"} {
			if o := get(); o.Err != nil || !o.Stale {
				t.Errorf("%s: %+v", when, o)
			}
		}
	})
}
