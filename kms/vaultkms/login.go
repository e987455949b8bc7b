package vaultkms

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// renewFrom and renewTo: a token is renewed at a random moment between these
	// parts of its time, so that workers that started together do not come together.
	renewFrom, renewTo = 0.6, 0.7

	// Failed logins are remembered, so that a burst of calls does not hammer the
	// login endpoint: briefly where the next try may succeed, longer where an
	// operator has to correct something first.
	rememberTransient = time.Second
	rememberFinal     = 5 * time.Second

	// lookupAfter is the time from the first use of a token that was given to us to its
	// look-up; a command that is over by then sends none.
	lookupAfter = 500 * time.Millisecond

	// retryRenewal is the longest wait after a renewal that failed.
	retryRenewal = 30 * time.Second

	// minWait is the shortest time between two requests about one token.
	minWait = 200 * time.Millisecond

	// ambiguousAfter: a 403 that does not blame the token is a policy's word, mostly.
	// A token younger than this is not replaced for one.
	ambiguousAfter = time.Minute

	// Tokens that Vault blames are replaced at once, so many in a row, and then one
	// in each perBlame.
	maxBlames = 4
	perBlame  = 5 * time.Second
)

// errClosed means that the Key was closed.
var errClosed = errors.New("vaultkms: the key is closed")

// lease is a token and how long it lasts.
type lease struct {
	token Token
	// ttl counts from when it was given; zero is without end.
	ttl       time.Duration
	renewable bool
	// unknown says that ttl and renewable have not been looked up yet.
	unknown bool
}

// loginMethod gets tokens. Its failures are *kms.Errors.
type loginMethod interface {
	// logIn returns a new token, or the one that was given to us.
	logIn(ctx context.Context) (lease, error)
	// given reports whether the token comes from outside: then only its
	// source can replace it.
	given() bool
	// changed reports whether logIn would give another token than last time without
	// a request. It looks now and then, or at once.
	changed(atOnce bool) bool
}

// login keeps a token valid for any number of callers: it logs in when the first of them
// needs a token, renews ahead of the end, and logs in again where a token cannot be
// renewed. All callers that wait share one request. In the background there is a timer, and
// a goroutine during a request; close ends both.
//
// Fail modes:
//
//   - No token, and a login fails: all callers get its error, and it is remembered.
//   - A renewal fails for now: the token serves on until its end, and is tried again.
//   - A renewal is refused, or gives less time than half the first lease (its
//     maximum is near): a login replaces the token.
//   - Vault refuses the token: one login for all callers that were refused, and each sends
//     its request once more.
type login struct {
	method loginMethod
	// renew and look send Vault requests about token.
	renew, look func(ctx context.Context, token Token) (lease, error)
	timeout     time.Duration

	// accepted says that Vault has taken the current token at least once.
	accepted atomic.Bool

	life context.Context // ends with close
	end  context.CancelFunc
	runs sync.WaitGroup

	mu      sync.Mutex
	current lease
	first   time.Duration // the ttl that the last login gave
	since   time.Time     // when the last login was
	blames  time.Time     // ahead of now by one perBlame for each token that Vault blamed lately
	expires time.Time     // zero for never
	used    bool          // since current was got
	flight  chan struct{} // closed when the request under way is over; nil if none is
	failure error
	until   time.Time // failure is remembered
	timer   *time.Timer
	closed  bool
}

func newLogin(method loginMethod, timeout time.Duration) *login {
	l := &login{method: method, timeout: timeout}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// token returns a token to use now.
func (l *login) token(ctx context.Context) (Token, error) {
	for {
		l.mu.Lock()
		if l.current.token != "" && !l.over() {
			defer l.mu.Unlock()
			l.lookAfter()
			return l.current.token, nil
		}
		flight, err := l.join()
		l.mu.Unlock()
		if err != nil {
			return "", err
		}
		if err := l.wait(ctx, flight); err != nil {
			return "", err
		}
	}
}

// lookAfter does what is due for a token that is about to be used.
func (l *login) lookAfter() {
	if l.flight != nil {
		return
	}
	if l.method.changed(false) && (l.failure == nil || time.Now().After(l.until)) {
		l.start(true) // the one at hand will do until the other is read
		return
	}
	if !l.used {
		l.used = true
		if l.timer == nil { // no renewal was scheduled while it was unused
			l.schedule()
		}
	}
}

// replace returns another token than refused, which Vault did not take, or
// refused itself where there is none to be had. sure says that Vault blamed the
// token and not a policy.
func (l *login) replace(ctx context.Context, refused Token, sure bool) (Token, error) {
	l.mu.Lock()
	young := time.Since(l.since)
	switch {
	case l.current.token != refused: // another caller has replaced it, or is about to
		l.mu.Unlock()
		return l.token(ctx)
	case l.method.given() && !l.method.changed(true),
		!sure && young < ambiguousAfter,
		// Another would fare no better: Vault has never taken this one, or it takes
		// what we get for one key and not for another, in another namespace.
		!l.method.given() && (!l.accepted.Load() && young < rememberFinal || sure && time.Until(l.blames) > maxBlames*perBlame):
		l.mu.Unlock()
		return refused, nil
	case sure:
		l.current = lease{}
		if now := time.Now(); l.blames.Before(now) {
			l.blames = now
		}
		l.blames = l.blames.Add(perBlame)
		l.mu.Unlock()
		return l.token(ctx)
	}
	flight, err := l.join()
	l.mu.Unlock()
	if err == nil {
		err = l.wait(ctx, flight)
	}
	if err != nil {
		return refused, nil //nolint:nilerr // what Vault said about this token is what counts
	}
	return l.token(ctx)
}

// over reports whether the token's time has come. Of a token that was given to us
// Vault knows best.
func (l *login) over() bool {
	return !l.expires.IsZero() && !l.method.given() && !time.Now().Before(l.expires)
}

// join returns the login under way, and starts one if there is none; or what the
// last one failed with, while that is remembered.
func (l *login) join() (<-chan struct{}, error) {
	switch {
	case l.closed:
		return nil, errClosed
	case l.flight != nil:
	case l.failure != nil && time.Now().Before(l.until):
		return nil, l.failure
	default:
		l.start(true)
	}
	return l.flight, nil
}

// wait returns when flight has landed. A caller that gives up ends nothing.
func (l *login) wait(ctx context.Context, flight <-chan struct{}) error {
	select {
	case <-flight:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.token == "" && l.failure != nil {
		return l.failure
	}
	return nil
}

// start sends a login, or else a renewal, on a context of its own.
func (l *login) start(anew bool) {
	l.stopTimer()
	old, first := l.current, l.first
	flight := make(chan struct{})
	l.flight = flight
	l.runs.Go(func() {
		ctx, cancel := context.WithTimeout(l.life, l.timeout)
		defer cancel()
		got, loggedIn, err := l.refresh(ctx, old, first, anew)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.flight = nil
		defer close(flight)
		switch {
		case l.closed:
			l.current, l.failure, l.until = lease{}, errClosed, time.Now().Add(time.Hour)
		case err != nil:
			l.failed(err, loggedIn)
		case !loggedIn && l.current.token != old.token: // refused meanwhile: a waiting caller logs in
		default:
			l.took(got, loggedIn)
		}
	})
}

// refresh gets a token in place of old.
func (l *login) refresh(ctx context.Context, old lease, first time.Duration, anew bool) (got lease, loggedIn bool, err error) {
	if !anew && old.token != "" {
		if old.unknown {
			return l.lookedUp(ctx, old)
		}
		if old.renewable {
			got, err = l.renew(ctx, old.token)
			nearEnd := err == nil && got.ttl > 0 && got.ttl <= first/2
			if l.method.given() {
				got.renewable = got.renewable && !nearEnd // to renew it ever more often is of no use
				return got, false, err
			}
			if err == nil && !nearEnd || err != nil && kms.ClassOf(err).Transient() {
				return got, false, err
			}
		}
	}
	got, err = l.method.logIn(ctx)
	return got, true, err
}

// lookedUp completes a lease that was given to us. A token that may not look
// itself up counts as one that is not renewed.
func (l *login) lookedUp(ctx context.Context, old lease) (lease, bool, error) {
	got, err := l.look(ctx, old.token)
	if err != nil {
		if kms.ClassOf(err).Transient() {
			return lease{}, false, err
		}
		got = lease{}
	}
	got.token = old.token
	return got, false, nil
}

// took makes got the token to use.
func (l *login) took(got lease, loggedIn bool) {
	now := time.Now()
	if loggedIn {
		l.since = now
		l.accepted.Store(false)
	}
	if loggedIn || l.current.unknown {
		l.first = got.ttl
	}
	l.used = false
	l.current, l.failure, l.until, l.expires = got, nil, time.Time{}, time.Time{}
	if got.ttl > 0 {
		l.expires = now.Add(got.ttl)
	}
	l.schedule()
}

// failed notes that no token was got. One that is still good serves on. That a
// renewal failed says nothing about a login, and is not remembered.
func (l *login) failed(err error, loggingIn bool) {
	if loggingIn {
		l.failure = err
		remember := rememberFinal
		if kms.ClassOf(err).Transient() {
			remember = rememberTransient
		}
		if e, ok := errors.AsType[*kms.Error](err); ok {
			remember = max(remember, min(e.RetryAfter, l.timeout))
		}
		l.until = time.Now().Add(remember)
	}
	if l.current.token == "" || l.over() {
		l.current = lease{}
		return
	}
	wait := retryRenewal
	if time.Now().Before(l.expires) {
		wait = min(wait, time.Until(l.expires)/3)
	}
	l.arm(max(wait, rememberTransient))
}

// schedule sets the timer to look after the current token in time.
func (l *login) schedule() {
	switch {
	case l.current.unknown:
		l.arm(lookupAfter)
	case l.current.ttl > 0 && (l.current.renewable || !l.method.given()):
		part := renewFrom + (renewTo-renewFrom)*rand.Float64() //nolint:gosec // jitter, no secret
		l.arm(time.Until(l.expires) - time.Duration((1-part)*float64(l.current.ttl)))
	}
}

// arm sets the timer.
func (l *login) arm(wait time.Duration) {
	l.stopTimer()
	if l.closed {
		return
	}
	l.timer = time.AfterFunc(max(wait, minWait), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.timer = nil
		if l.closed || l.flight != nil || l.current.token == "" {
			return
		}
		// A token that cannot be renewed, and that was not used since it was got, is left
		// to end: an idle process goes quiet. One that can is kept, for what to log in
		// with may be used up by now: a secret ID for one login, a JWT of this morning.
		if l.used || l.current.renewable || l.method.given() {
			l.start(false)
		}
	})
}

func (l *login) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// close stops what runs in the background and waits for it. The token stays
// valid in Vault until its end.
func (l *login) close() {
	l.mu.Lock()
	l.closed = true
	l.current = lease{}
	l.failure, l.until = errClosed, time.Now().Add(time.Hour)
	l.stopTimer()
	l.mu.Unlock()
	l.end()
	l.runs.Wait()
}
