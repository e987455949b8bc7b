package resilience

import (
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// State is the state of a key's breaker.
type State uint8

const (
	// Closed means that calls go through.
	Closed State = iota
	// Open means that the KMS has not been answering; no call goes through.
	Open
	// HalfOpen means that one call is let through to see whether the KMS is back.
	HalfOpen
)

var stateNames = [...]string{Closed: "closed", Open: "open", HalfOpen: "half-open"}

// String returns the state in words, such as "half-open".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// breaker stops calls to a KMS that has not been answering. failsafe-go's counts failures
// and time. This one adds two things. An attempt without a verdict gives the trial back. An
// attempt sent before the last change of state does not count, so a late answer to an old
// request neither closes the breaker nor lets a second trial through.
type breaker struct {
	mu sync.Mutex
	cb circuitbreaker.CircuitBreaker[any]
	// era counts the changes of state.
	era uint64
	// trial says that the one attempt of the half-open state is under way.
	trial bool
	cause error // the last failure
	muted bool
}

// pass lets one attempt through. It is given back with done.
type pass struct{ era uint64 }

func newBreaker(failures int, openFor time.Duration, changed func(State)) *breaker {
	b := new(breaker)
	b.cb = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(failures)).
		WithSuccessThreshold(1).
		WithDelay(openFor).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			// Called by cb's methods, and so with b.mu held.
			b.era++
			if changed != nil && !b.muted {
				changed(stateOf(e.NewState))
			}
		}).Build()
	return b
}

func stateOf(s circuitbreaker.State) State {
	switch s {
	case circuitbreaker.OpenState:
		return Open
	case circuitbreaker.HalfOpenState:
		return HalfOpen
	default:
		return Closed
	}
}

// refused describes why the breaker lets no call through.
type refused struct {
	in    time.Duration // until a trial is due; 0 if one is under way
	cause error         // the last failure
}

// acquire lets an attempt through, or says why not.
func (b *breaker) acquire() (pass, *refused) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.cb.TryAcquirePermit() {
		return pass{}, &refused{in: b.cb.RemainingDelay(), cause: b.cause}
	}
	b.trial = b.cb.IsHalfOpen()
	return pass{era: b.era}, nil
}

// check says what acquire would, and takes nothing.
func (b *breaker) check() *refused {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.cb.RemainingDelay()
	if in > 0 || b.trial {
		return &refused{in: in, cause: b.cause}
	}
	return nil
}

// isClosed reports whether calls go through without being a trial.
func (b *breaker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cb.IsClosed()
}

// done gives a pass back with the attempt's verdict; err is what failed in it.
func (b *breaker) done(p pass, v verdict, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.era != b.era {
		return
	}
	b.trial = false
	switch v {
	case isUp:
		b.cause = nil
		b.cb.RecordSuccess()
	case isDown:
		b.cause = err
		b.cb.RecordFailure()
	case tellsNothing:
		if b.cb.IsHalfOpen() {
			// A permit of cb comes back only with a result, or with a new half-open state.
			b.muted = true
			b.cb.Open()
			b.cb.HalfOpen()
			b.muted = false
		}
	}
}
