package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/cache"
)

type digest [32]byte // as package envelope keys its data keys

func benchCache(b *testing.B, n int) (*cache.Cache[digest, []byte], []digest) {
	c, err := cache.New[digest](cache.Config[[]byte]{
		MaxEntries: n, Fresh: time.Hour, Stale: time.Hour, Jitter: 0.1, NegativeFor: time.Second, LoadTimeout: time.Second,
		Classify: func(error) cache.Verdict { return cache.Fail },
		Wipe:     func(v []byte) { clear(v) },
		Observer: observer{func(string) {}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	keys := make([]digest, n)
	for i := range keys {
		copy(keys[i][:], fmt.Sprint(i))
		c.Put(keys[i], make([]byte, 32)).Release()
	}
	return c, keys
}

func loadOne(context.Context) ([]byte, error) { return make([]byte, 32), nil }

func loadAll(_ context.Context, missing []digest) []cache.Result[[]byte] {
	results := make([]cache.Result[[]byte], len(missing))
	for i := range results {
		results[i].Value = make([]byte, 32)
	}
	return results
}

func BenchmarkGetHit(b *testing.B) {
	c, keys := benchCache(b, 1024)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		ref, err := c.Get(b.Context(), keys[i&1023], loadOne)
		if err != nil {
			b.Fatal(err)
		}
		ref.Release()
		i++
	}
}

func BenchmarkGetHitParallel(b *testing.B) {
	c, keys := benchCache(b, 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			ref, err := c.Get(b.Context(), keys[i&1023], loadOne)
			if err != nil {
				b.Error(err)
				return
			}
			ref.Release()
		}
	})
}

func BenchmarkGetManyHit(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c, keys := benchCache(b, 1024)
			b.ReportAllocs()
			for b.Loop() {
				for _, o := range c.GetMany(b.Context(), keys[:n], loadAll) {
					if o.Err != nil {
						b.Fatal(o.Err)
					}
					o.Ref.Release()
				}
			}
		})
	}
}

func BenchmarkGetMiss(b *testing.B) {
	c, keys := benchCache(b, 1024)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.Remove(keys[i&1023])
		ref, err := c.Get(b.Context(), keys[i&1023], loadOne)
		if err != nil {
			b.Fatal(err)
		}
		ref.Release()
		i++
	}
}

func BenchmarkPut(b *testing.B) {
	c, _ := benchCache(b, 1024)
	value := make([]byte, 32)
	var key digest
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		c.Put(key, value).Release()
		i++
	}
}

// A fresh hit is the way of nearly every payload that is opened: it must stay at
// the one allocation of the Ref.
func TestHitAllocatesOnce(t *testing.T) {
	k := newKit(t)
	k.put("a")
	keys := []string{"a"}
	load, loadMany := k.load("a", nil), k.loadMany(nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		ref, _ := k.Cache.Get(ctx, "a", load)
		ref.Release()
	}); n > 1 {
		t.Errorf("Get allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		k.Cache.GetMany(ctx, keys, loadMany)[0].Ref.Release()
	}); n > 1 {
		t.Errorf("GetMany of one key allocates %v times", n)
	}
}
