package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// outcome sums up what came of one attempt, over its items.
type outcome struct {
	err     error         // the most telling error; nil if nothing failed
	again   bool          // something failed that a retry may solve
	backoff time.Duration // bounds the wait before the second attempt
	after   time.Duration // the wait that the KMS demands
	breaker verdict
}

// add counts one item, or a whole call: its error, or nil for an answer.
func (o *outcome) add(err error) {
	if err == nil {
		o.breaker = isUp
		return
	}
	r := ruleFor(err)
	if o.err == nil || r.retry && !o.again {
		o.err = err
	}
	o.again = o.again || r.retry
	o.backoff = max(o.backoff, r.backoff)
	o.after = max(o.after, retryAfter(err))
	o.breaker = max(o.breaker, r.breaker)
}

// send makes one attempt for all that has no answer yet. It applies explain to each error.
type send func(ctx context.Context, explain func(error) error) outcome

// call makes attempts until all is answered or another one is of no use. An error means
// that no attempt was made, or that the caller gave up before another one; else the last
// attempt's outcome stands.
//
// The order of checks, for every attempt: the caller's context, the breaker, a place in the
// bulkhead, the breaker again (it may have opened meanwhile). Before another attempt: the
// class, the number of attempts, the time left, the breaker, the budget. The budget is
// last, so that no other check wastes it.
func (k *Key) call(ctx context.Context, op string, send send) error {
	for attempt := 1; ; attempt++ {
		o, err := k.attempt(ctx, op, send)
		switch {
		case err != nil && attempt > 1 && kms.ClassOf(err) != kms.Canceled:
			return nil // the KMS's last answer says more
		case err != nil:
			return err
		case attempt == 1:
			k.budget.earn() // only by calls that reached the KMS
		}
		switch {
		case o.err != nil && kms.ClassOf(o.err) == kms.Canceled:
			return o.err
		case !o.again || attempt == k.cfg.Attempts:
			return nil
		}
		wait := backoff(o.backoff, attempt, o.after)
		if !inTime(ctx, wait, o.after) {
			return nil
		}
		if k.breaker.check() != nil {
			k.rejected(op, BreakerOpen)
			return nil
		}
		if !k.budget.spend() {
			k.rejected(op, BudgetSpent)
			return nil
		}
		if k.cfg.Hooks.Retry != nil {
			k.cfg.Hooks.Retry(op, wait)
		}
		if open, err := k.sleep(ctx, op, wait, o.err); !open {
			return err
		}
	}
}

// attempt makes one attempt, or returns why not.
func (k *Key) attempt(ctx context.Context, op string, send send) (outcome, error) {
	if ctx.Err() != nil {
		return outcome{}, k.callerGaveUp(ctx, op, nil)
	}
	if r := k.breaker.check(); r != nil {
		return outcome{}, k.leftAlone(op, r)
	}
	if err := k.enter(ctx, op); err != nil {
		return outcome{}, err
	}
	defer k.bulkhead.ReleasePermit()
	p, r := k.breaker.acquire()
	if r != nil {
		return outcome{}, k.leftAlone(op, r)
	}
	var o outcome // no verdict if send does not return
	defer func() { k.breaker.done(p, o.breaker, o.err) }()
	timed, cancel := kms.WithLimit(ctx, k.cfg.Timeout)
	defer cancel()
	start := time.Now()
	o = send(timed, func(err error) error { return k.explain(ctx, timed, op, err) })
	if k.cfg.Hooks.Attempt != nil {
		k.cfg.Hooks.Attempt(op, o.err, time.Since(start))
	}
	return o, nil
}

// enter takes a place in the bulkhead, and waits for it.
func (k *Key) enter(ctx context.Context, op string) error {
	if k.bulkhead.TryAcquirePermit() {
		return nil
	}
	defer k.waiting.Add(-1)
	if k.waiting.Add(1) > int64(k.cfg.Queue) {
		k.rejected(op, QueueFull)
		return &kms.Error{
			Class: kms.Throttled, Op: op, KeyID: k.ID(),
			Detail: fmt.Sprintf("not asked: %d calls are under way and %d wait", k.cfg.Concurrency, k.cfg.Queue),
			Advice: "let payloads share data keys (dataKey.maxPayloads), allow more calls at one time, or see why the KMS is slow",
			Err:    kms.ErrNotAsked,
		}
	}
	if k.bulkhead.AcquirePermit(ctx) != nil {
		return k.callerGaveUp(ctx, op, nil)
	}
	return nil
}

// sleep waits before another attempt, which last made necessary, and reports
// whether there shall be one.
func (k *Key) sleep(ctx context.Context, op string, wait time.Duration, last error) (bool, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-k.closed:
		return false, nil
	case <-ctx.Done():
		return false, k.callerGaveUp(ctx, op, last)
	}
}

func (k *Key) rejected(op string, why Reason) {
	if k.cfg.Hooks.Rejected != nil {
		k.cfg.Hooks.Rejected(op, why)
	}
}

// ask calls a backend, and returns n answers or an error. It wipes answers that it drops.
func ask[T any](k *Key, op string, n int, wipe func(*T), call func() ([]T, error)) ([]T, error) {
	got, err := guarded(k, op, call)
	if err == nil && len(got) != n {
		err = k.wrongCount(op, len(got), n)
	}
	if err != nil {
		for i := range got {
			wipe(&got[i])
		}
		return nil, err
	}
	return got, nil
}

// guarded calls a backend and turns a panic into an error: the place that the attempt
// holds has to be given back.
func guarded[T any](k *Key, op string, call func() ([]T, error)) (got []T, err error) {
	defer kms.Recover(op, k.ID(), &err)
	return call()
}

// explain says what an error means that came while ctx, the caller's, or timed,
// the attempt's, may have ended.
func (k *Key) explain(ctx, timed context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	class := kms.ClassOf(err)
	switch {
	case class != kms.Canceled && class != kms.Unavailable:
		return err
	case ctx.Err() != nil:
		// A connection that was cut because the caller gave up is not the KMS's doing.
		if class == kms.Canceled && errors.Is(err, ctx.Err()) {
			return err
		}
		return k.callerGaveUp(ctx, op, err)
	case class == kms.Unavailable:
		return err
	case timed.Err() != nil:
		return kms.NoAnswer(op, k.ID(), k.cfg.Timeout, err)
	default:
		return k.unavailable(op, "the call was canceled, and not by its caller", err)
	}
}

func (k *Key) unavailable(op, detail string, cause error) error {
	return &kms.Error{
		Class: kms.Unavailable, Op: op, KeyID: k.ID(), Detail: detail,
		Advice: "check that the KMS is up and reachable from here", Err: cause,
	}
}

// callerGaveUp says so; last is what failed before that, if anything did.
func (k *Key) callerGaveUp(ctx context.Context, op string, last error) error {
	return &kms.Error{
		Class: kms.Canceled, Op: op, KeyID: k.ID(), Detail: "the caller gave up",
		Err: errors.Join(context.Cause(ctx), ctx.Err(), last),
	}
}

// leftAlone is the error of a call that the breaker does not let through.
func (k *Key) leftAlone(op string, r *refused) error {
	k.rejected(op, BreakerOpen)
	e := &kms.Error{
		Class: kms.Unavailable, Op: op, KeyID: k.ID(), Detail: "not asked: it has not been answering",
		Advice: "check that the KMS is up and reachable from here", Err: errors.Join(kms.ErrNotAsked, r.cause),
	}
	if cause, ok := errors.AsType[*kms.Error](r.cause); ok {
		if cause.Detail != "" {
			e.Detail += " (" + cause.Detail + ")"
		}
		if cause.Advice != "" {
			e.Advice = cause.Advice
		}
	}
	if r.in > 0 {
		e.Detail += fmt.Sprintf("; it will be tried again in %s", max(r.in.Round(100*time.Millisecond), 100*time.Millisecond))
	} else {
		e.Detail += "; it is being tried again just now"
	}
	return e
}

func (k *Key) wrongCount(op string, got, want int) error {
	return &kms.Error{
		Class: kms.Internal, Op: op, KeyID: k.ID(), Detail: fmt.Sprintf("%d answers for %d data keys", got, want),
		Advice: "this is a bug in the backend: please report it",
	}
}
