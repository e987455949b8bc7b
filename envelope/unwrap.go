package envelope

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/internal/erase"
	"github.com/waxseal/waxseal/kms"
)

// unwrapJob is a wrapped data key and the KEK that unwraps it.
type unwrapJob struct {
	key  kms.Key
	blob []byte
	ec   kms.Context
}

// maxUnwrapCalls is how many calls one load makes at a time: a caller with envelopes of
// hundreds of contexts must leave room for others at the KMS.
const maxUnwrapCalls = 16

// unwrapAll unwraps the missing data keys: one Unwrap for each KEK and
// encryption context, up to maxUnwrapCalls of these at the same time.
func unwrapAll(ctx context.Context, missing []cacheKey, jobs map[cacheKey]unwrapJob, timeout time.Duration) []cache.Result[*dataKey] {
	type group struct{ kekID, ec string }
	groups := make(map[group][]int)
	for i, id := range missing {
		j := jobs[id]
		g := group{kekID: j.key.ID(), ec: string(j.ec.AssociatedData())}
		groups[g] = append(groups[g], i)
	}
	out := make([]cache.Result[*dataKey], len(missing))
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxUnwrapCalls)
	for _, members := range groups {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			job := jobs[missing[members[0]]]
			wrapped := make([]kms.Wrapped, len(members))
			for n, i := range members {
				wrapped[n] = kms.Wrapped{Blob: jobs[missing[i]].blob}
				// It stands if the call below ends the goroutine.
				out[i].Err = &kms.Error{Op: "unwrap", KeyID: job.key.ID(), Detail: "the backend ended its goroutine"}
			}
			results, err := callUnwrap(ctx, job, wrapped)
			for n, i := range members {
				if out[i].Err = err; err == nil {
					out[i] = takeDataKey(job.key, results[n])
				}
				out[i].Err = noAnswer(ctx, "unwrap", job.key.ID(), timeout, out[i].Err)
			}
		})
	}
	wg.Wait()
	return out
}

// callUnwrap calls the KMS and returns one answer for each wrapped key, or an error. A
// panic of the client library becomes an error: it would end the program here.
func callUnwrap(ctx context.Context, job unwrapJob, wrapped []kms.Wrapped) (out []kms.Unwrapped, err error) {
	defer kms.Recover("unwrap", job.key.ID(), &err)
	erase.Call(func() { out, err = job.key.Unwrap(ctx, wrapped, job.ec) })
	if err == nil && len(out) != len(wrapped) {
		err = &kms.Error{Op: "unwrap", KeyID: job.key.ID(), Detail: fmt.Sprintf("%d answers for %d wrapped keys", len(out), len(wrapped))}
	}
	if err != nil {
		for _, r := range out {
			clear(r.DataKey)
		}
		return nil, err
	}
	return out, nil
}

func takeDataKey(key kms.Key, u kms.Unwrapped) cache.Result[*dataKey] {
	defer clear(u.DataKey)
	switch {
	case u.Err != nil:
		return cache.Result[*dataKey]{Err: u.Err}
	case len(u.DataKey) != kms.DataKeySize:
		return cache.Result[*dataKey]{Err: openError(kms.Corrupt, key.ID(), fmt.Sprintf("the KMS answered with %d bytes instead of a data key of %d", len(u.DataKey), kms.DataKeySize),
			"the wrapped key was not made by Waxseal, or the KMS answered wrongly", nil)}
	default:
		return cache.Result[*dataKey]{Value: dataKeyFrom(u.DataKey)}
	}
}

// noAnswer returns err as kms.NoAnswer if our own timeout ended ctx, and so the call.
func noAnswer(ctx context.Context, op, keyID string, timeout time.Duration, err error) error {
	if err != nil && kms.ClassOf(err) == kms.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return kms.NoAnswer(op, keyID, timeout, err)
	}
	return err
}
