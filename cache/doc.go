// Package cache keeps loaded secrets for a bounded time, in a bounded number, and
// wipes each one once it has left the cache and its last reader has released it.
//
// It promises:
//
//   - Bounds. Never more than MaxEntries values and as many remembered failures; the
//     least recently used goes first. A value leaves the cache, and is wiped if no Ref
//     holds it, at most Fresh·(1+Jitter)+Stale after it came in, even if no caller
//     requests it again.
//   - One load at a time per key. Callers that need a key while it is being loaded wait
//     for that load; [Cache.GetMany] makes one call for all the keys that are not being
//     loaded. A load has its own context: a caller that gives up gets its context's
//     error and the others still get the value.
//   - A [Verdict] for every failed load: [Fail], [ServeStale], [ServeStaleOnce] or [Evict].
//     It alone decides whether a value past its fresh lifetime may still serve.
//   - A value is wiped exactly once, and never while a [Ref] to it is held.
//
// What a caller gets for one key, in the order of the checks:
//
//  1. the cache is closed: [ErrClosed];
//  2. an entry within its fresh lifetime: its value;
//  3. a load of the key in flight: the outcome of that load;
//  4. a remembered failure: the stale value if there is one, else that error;
//  5. the caller's context has ended: its error;
//  6. otherwise a load. Success: the new value. Failure: the stale value if the verdict is
//     ServeStale or ServeStaleOnce and the entry is within Fresh+Stale, else the error.
//
// Package envelope calls it with unwrapped data keys. It imports no other package of this module, starts no goroutine
// that outlives Close (and only one for each load and for each sweep of what has expired), never logs, and never puts a
// value, or what a load panicked with, in an error.
package cache
