package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/cache"
)

// dataKeys returns a cache with the lifetimes that Waxseal gives to data keys.
func dataKeys(verdict func(error) cache.Verdict) *cache.Cache[string, []byte] {
	c, err := cache.New[string](cache.Config[[]byte]{
		MaxEntries:  10_000,
		Fresh:       5 * time.Minute,
		Stale:       time.Hour,
		Jitter:      0.1,
		NegativeFor: 5 * time.Second,
		LoadTimeout: 10 * time.Second,
		Classify:    verdict,
		Wipe:        func(key []byte) { clear(key) },
	})
	if err != nil {
		panic(err)
	}
	return c
}

func alwaysFail(error) cache.Verdict { return cache.Fail }

func ExampleNew() {
	_, err := cache.New[string](cache.Config[[]byte]{MaxEntries: 1000, Fresh: 5 * time.Minute, Jitter: 10})
	fmt.Println(err)
	// Output: cache: check config: LoadTimeout is 0s, must be more than 0; Jitter is 10, must be at least 0 and less than 1; Classify is missing; Wipe is missing
}

func ExampleCache_GetMany_revoked() {
	errRevoked := errors.New("key is disabled")
	c := dataKeys(func(err error) cache.Verdict {
		if errors.Is(err, errRevoked) {
			return cache.Evict
		}
		return cache.Fail
	})
	defer c.Close()
	for range 2 {
		o := c.GetMany(context.Background(), []string{"wrapped"}, func(context.Context, []string) []cache.Result[[]byte] {
			fmt.Println("calling the KMS")
			return []cache.Result[[]byte]{{Err: errRevoked}}
		})
		fmt.Println(o[0].Err)
	}
	// Output:
	// calling the KMS
	// key is disabled
	// key is disabled
}

func ExampleCache_GetMany() {
	c := dataKeys(alwaysFail)
	defer c.Close()
	c.Put("known", []byte("k")).Release()

	keys := []string{"one", "known", "two", "one"}
	outcomes := c.GetMany(context.Background(), keys, func(_ context.Context, missing []string) []cache.Result[[]byte] {
		fmt.Println("calling the KMS for", missing)
		results := make([]cache.Result[[]byte], len(missing))
		for i, key := range missing {
			if key == "two" {
				results[i].Err = errors.New("no such key")
				continue
			}
			results[i].Value = []byte(key)
		}
		return results
	})
	for i, o := range outcomes {
		if o.Err != nil {
			fmt.Println(keys[i], "-", o.Err)
			continue
		}
		fmt.Println(keys[i], "-", len(o.Ref.Value()), "bytes")
		o.Ref.Release()
	}
	// Output:
	// calling the KMS for [one two]
	// one - 3 bytes
	// known - 1 bytes
	// two - no such key
	// one - 3 bytes
}

func ExampleCache_Put() {
	c := dataKeys(alwaysFail)
	defer c.Close()
	key := []byte{1, 2, 3}
	ref := c.Put("wrapped", key)

	c.Remove("wrapped")
	fmt.Println("removed, still held:", key)
	ref.Release()
	fmt.Println("released:", key)
	// Output:
	// removed, still held: [1 2 3]
	// released: [0 0 0]
}

func ExampleCache_Remove() {
	c := dataKeys(alwaysFail)
	defer c.Close()
	c.Put("wrapped", []byte{1, 2, 3}).Release()
	c.Remove("wrapped")
	fmt.Println(c.Fresh("wrapped") == nil)
	// Output: true
}

func ExampleCache_Close() {
	c := dataKeys(alwaysFail)
	key := []byte{1, 2, 3}
	c.Put("wrapped", key).Release()
	c.Close()
	fmt.Println(key)
	fmt.Println(c.GetMany(context.Background(), []string{"wrapped"}, nil)[0].Err)
	// Output:
	// [0 0 0]
	// cache: closed
}

func ExampleCache_Fresh() {
	c := dataKeys(alwaysFail)
	defer c.Close()
	c.Put("second", []byte("0123456789abcdef0123456789abcdef")).Release()
	for _, key := range []string{"first", "second"} { // any of them would do
		if ref := c.Fresh(key); ref != nil {
			fmt.Println(key, len(ref.Value()))
			ref.Release()
		}
	}
	// Output: second 32
}
