// Package cache keeps loaded secrets for a bounded time, in a bounded number,
// and wipes each of them when it is gone from the cache and its last reader has
// let go.
//
// It promises:
//
//   - Bounds. Never more than MaxEntries values and as many remembered failures;
//     the least recently used goes first. A value is out of the cache, and wiped if
//     nobody holds it, no later than Fresh·(1+Jitter)+Stale after it came in, even if
//     nobody ever asks for it again.
//   - One load at a time per key. Callers that ask for a key while it is being
//     loaded wait for that load; [Cache.GetMany] makes one call for all the keys that
//     nobody is loading. A load runs on a context of its own: a caller that gives up
//     gets its context's error and the others still get the value.
//   - A [Verdict] for every failed load: [Fail], [ServeStale], [ServeStaleOnce] or [Evict]. It alone
//     decides whether a value past its fresh lifetime may still serve.
//   - A value is wiped exactly once, and never while a [Ref] to it is held.
//
// What a caller sees for one key, in the order in which it is decided:
//
//  1. the cache is closed: [ErrClosed];
//  2. an entry within its fresh lifetime: its value;
//  3. a load of the key in flight: the outcome of that load;
//  4. a failure remembered: the stale value if there is one, else that error;
//  5. the caller's context has ended: its error;
//  6. otherwise a load. Success: the new value. Failure: the stale value if the
//     verdict is ServeStale or ServeStaleOnce and the entry is within Fresh+Stale, else the error.
//
// Package envelope calls it with unwrapped data keys. It imports no other
// package of this module, starts no goroutine that outlives Close (and none but
// one for each load and one for each sweep of what has expired), never logs, and never puts a
// value, or what a load panicked with, in an error.
package cache
