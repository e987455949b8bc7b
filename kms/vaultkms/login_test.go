package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// fakeLogin is a loginMethod without a Vault: what login does with time is tested
// on synctest's clock, what Vault says to it elsewhere.
type fakeLogin struct {
	mu         sync.Mutex
	logins     int
	renewals   int
	lookups    int
	takes      time.Duration
	renewTakes time.Duration
	ttl        time.Duration
	renewTTL   func(n int) time.Duration
	isGiven    bool
	dirty      atomic.Bool
	fixed      bool // never renewable
	err        error
	renewErr   error
	lookErr    error
}

func (f *fakeLogin) given() bool       { return f.isGiven }
func (f *fakeLogin) changed(bool) bool { return f.dirty.Load() }

func (f *fakeLogin) logIn(ctx context.Context) (lease, error) {
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return lease{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty.Store(false)
	f.logins++
	if f.err != nil {
		return lease{}, f.err
	}
	token := Token(fmt.Sprint("token-", f.logins))
	if f.isGiven {
		return lease{token: token, unknown: true}, nil
	}
	return lease{token: token, ttl: f.ttl, renewable: !f.fixed}, nil
}

func (f *fakeLogin) renew(_ context.Context, token Token) (lease, error) {
	elapse(f.renewTakes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewals++
	ttl := f.ttl
	if f.renewTTL != nil {
		ttl = f.renewTTL(f.renewals)
	}
	return lease{token: token, ttl: ttl, renewable: true}, f.renewErr
}

func (f *fakeLogin) look(context.Context, Token) (lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	return lease{ttl: f.ttl, renewable: !f.fixed}, f.lookErr
}

// take returns the requests since it was last called.
func (f *fakeLogin) take() (logins, renewals, lookups int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	logins, renewals, lookups = f.logins, f.renewals, f.lookups
	f.renewals, f.lookups = 0, 0
	return logins, renewals, lookups
}

func (f *fakeLogin) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeLogin) start(t *testing.T) *login {
	t.Helper()
	l := newLogin(f, 10*time.Second)
	l.renew, l.look = f.renew, f.look
	t.Cleanup(l.close)
	return l
}

// elapse lets d pass on synctest's clock.
func elapse(d time.Duration) { <-time.After(d) }

func wantToken(t *testing.T, l *login, want Token) {
	t.Helper()
	got, err := l.token(t.Context())
	if err != nil || got != want {
		t.Errorf("token %s, want %s; error %v", string(got), string(want), err)
	}
}

func classed(class kms.Class) error {
	return &kms.Error{Class: class, Op: opLogin, Detail: "scripted"}
}

func TestLoginIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, takes: time.Second}
		l := f.start(t)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() { wantToken(t, l, "token-1") })
		}
		callers.Wait()
		// Vault refuses it: one login for all, and none for a late call.
		l.accepted.Store(true)
		for range 100 {
			callers.Go(func() {
				if got, err := l.replace(t.Context(), "token-1", true); err != nil || got != "token-2" {
					t.Errorf("%s, %v", string(got), err)
				}
			})
		}
		callers.Wait()
		if got, err := l.replace(t.Context(), "token-1", true); err != nil || got != "token-2" {
			t.Errorf("%s, %v", string(got), err)
		}
		if logins, _, _ := f.take(); logins != 2 {
			t.Errorf("%d logins", logins)
		}
	})
}

func TestLoginRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour}
		l := f.start(t)
		for range 48 * 6 { // two days, used every ten minutes
			wantToken(t, l, "token-1")
			elapse(10 * time.Minute)
		}
		// Each hour's lease is renewed after 36 to 42 minutes.
		if logins, renewals, _ := f.take(); logins != 1 || renewals < 48*60/50 || renewals > 48*60/36 {
			t.Errorf("%d logins, %d renewals", logins, renewals)
		}
	})
}

func TestRenewalsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		at := make(map[time.Duration]bool)
		start := time.Now()
		for range 20 {
			f := &fakeLogin{ttl: time.Hour, renewTTL: func(int) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				at[time.Since(start).Truncate(time.Second)] = true
				return 0
			}}
			wantToken(t, f.start(t), "token-1")
		}
		elapse(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if len(at) < 10 {
			t.Errorf("20 tokens are renewed at %d times", len(at))
		}
		for d := range at {
			if d < 35*time.Minute || d > 43*time.Minute {
				t.Errorf("renewed after %v", d)
			}
		}
	})
}

// Near its maximum a token is renewed for less and less: another one is got.
func TestLoginReplacesATokenNearItsMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, renewTTL: func(n int) time.Duration {
			return []time.Duration{time.Hour, 20 * time.Minute}[n%2]
		}}
		l := f.start(t)
		wantToken(t, l, "token-1")
		elapse(59 * time.Minute)
		wantToken(t, l, "token-2")
	})
}

func TestLoginThatCannotBeRenewed(t *testing.T) {
	for name, f := range map[string]*fakeLogin{
		"not renewable":  {ttl: time.Hour, fixed: true},
		"renewal denied": {ttl: time.Hour, renewErr: classed(kms.Denied)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := f.start(t)
				wantToken(t, l, "token-1")
				elapse(59 * time.Minute)
				wantToken(t, l, "token-2") // without any caller having waited for it
			})
		})
	}
}

// While Vault does not answer a token serves to its end; then a login is due.
func TestRenewalFailsForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, renewErr: classed(kms.Unavailable)}
		l := f.start(t)
		wantToken(t, l, "token-1")
		f.set(func() { f.err = classed(kms.Unavailable) })
		elapse(59 * time.Minute)
		wantToken(t, l, "token-1")
		if _, renewals, _ := f.take(); renewals < 10 || renewals > 100 {
			t.Errorf("%d renewals were tried", renewals)
		}
		elapse(2 * time.Minute)
		if _, err := l.token(t.Context()); kms.ClassOf(err) != kms.Unavailable {
			t.Errorf("after its end: %v", err)
		}
		f.set(func() { f.err = nil })
		elapse(rememberTransient)
		if got, err := l.token(t.Context()); err != nil || got == "token-1" {
			t.Errorf("%s, %v", string(got), err)
		}
	})
}

// What to log in with may be used up: a process that sits idle keeps its token.
func TestIdleTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour}
		l := f.start(t)
		wantToken(t, l, "token-1")
		f.set(func() { f.err = classed(kms.Denied) }) // a secret ID for one login
		elapse(48 * time.Hour)
		wantToken(t, l, "token-1")
		if _, renewals, _ := f.take(); renewals < 48 || renewals > 80 {
			t.Errorf("%d renewals in 48 hours", renewals)
		}
	})
}

// A token that cannot be renewed takes a login for another: an idle process goes
// quiet, and logs in when it is wanted again.
func TestIdleLoginIsLeftToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, fixed: true}
		l := f.start(t)
		wantToken(t, l, "token-1")
		elapse(48 * time.Hour)
		if logins, renewals, _ := f.take(); logins > 2 || renewals != 0 {
			t.Errorf("%d logins, %d renewals while idle", logins, renewals)
		}
		wantToken(t, l, "token-3")
		// One that is used again before its end is looked after again.
		elapse(30 * time.Minute)
		wantToken(t, l, "token-3")
		elapse(13 * time.Minute)
		wantToken(t, l, "token-4")
	})
}

func TestFailedLoginIsRemembered(t *testing.T) {
	for _, tc := range []struct {
		err      error
		remember time.Duration
	}{
		{classed(kms.Denied), rememberFinal},
		{classed(kms.Unavailable), rememberTransient},
		{&kms.Error{Class: kms.Throttled, RetryAfter: 3 * time.Second}, 3 * time.Second},
		{&kms.Error{Class: kms.Throttled, RetryAfter: time.Hour}, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeLogin{ttl: time.Hour, err: tc.err, takes: 10 * time.Millisecond}
			l := f.start(t)
			var callers sync.WaitGroup
			for range 50 {
				callers.Go(func() {
					for range 5 {
						if _, err := l.token(t.Context()); !errors.Is(err, tc.err) {
							t.Errorf("%v, want %v", err, tc.err)
						}
					}
				})
			}
			callers.Wait()
			if logins, _, _ := f.take(); logins != 1 {
				t.Errorf("%d logins", logins)
			}
			f.set(func() { f.err = nil })
			elapse(tc.remember - time.Millisecond)
			if _, err := l.token(t.Context()); err == nil {
				t.Error("forgotten too early")
			}
			elapse(time.Millisecond)
			wantToken(t, l, "token-2")
		})
	}
}

func TestCallerGivesUpOnALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, takes: 5 * time.Second}
		l := f.start(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		wantToken(t, l, "token-1") // the login went on for the others
	})
}

func TestCloseEndsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, takes: 5 * time.Second}
		l := f.start(t)
		failed := make(chan error, 1)
		go func() {
			_, err := l.token(t.Context())
			failed <- err
		}()
		synctest.Wait()
		l.close()
		if err := <-failed; !errors.Is(err, errClosed) {
			t.Errorf("waiting: %v", err)
		}
		if _, err := l.token(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("later: %v", err)
		}
		if _, err := l.replace(t.Context(), "token-1", true); !errors.Is(err, errClosed) {
			t.Errorf("replacing: %v", err)
		}
	})
}

// A 403 that does not blame the token is a policy's word, mostly; a token that
// Vault never took is no better for being new.
func TestReplaceHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: 24 * time.Hour}
		l := f.start(t)
		wantToken(t, l, "token-1")
		replace := func(refused, want Token, sure bool) {
			t.Helper()
			if got, err := l.replace(t.Context(), refused, sure); err != nil || got != want {
				t.Errorf("%s, want %s; %v", string(got), string(want), err)
			}
		}
		replace("token-1", "token-1", true) // brand new and never taken
		l.accepted.Store(true)
		replace("token-1", "token-1", false)
		elapse(ambiguousAfter)
		replace("token-1", "token-2", false)
		replace("token-2", "token-2", false)
		// That there is no other for now leaves the one at hand, unless it is to blame.
		l.accepted.Store(true)
		elapse(ambiguousAfter)
		f.set(func() { f.err = classed(kms.Unavailable) })
		replace("token-2", "token-2", false)
		wantToken(t, l, "token-2")
		elapse(rememberTransient)
		if _, err := l.replace(t.Context(), "token-2", true); kms.ClassOf(err) != kms.Unavailable {
			t.Errorf("%v", err)
		}
	})
}

// A token that is refused while it is being renewed is replaced all the same.
func TestRefusedWhileRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, renewTakes: 5 * time.Second}
		l := f.start(t)
		wantToken(t, l, "token-1")
		l.accepted.Store(true)
		l.mu.Lock()
		l.start(false)
		l.mu.Unlock()
		synctest.Wait()
		if got, err := l.replace(t.Context(), "token-1", true); err != nil || got != "token-2" {
			t.Errorf("%s, %v", string(got), err)
		}
		if logins, renewals, _ := f.take(); logins != 2 || renewals != 1 {
			t.Errorf("%d logins, %d renewals", logins, renewals)
		}
	})
}

func TestGivenTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, isGiven: true}
		l := f.start(t)
		wantToken(t, l, "token-1")
		elapse(48 * time.Hour) // also while it is unused: there is no getting another
		if logins, renewals, lookups := f.take(); logins != 1 || lookups != 1 || renewals < 60 || renewals > 85 {
			t.Errorf("%d logins, %d renewals, %d lookups", logins, renewals, lookups)
		}
		// Vault refuses it: so be it.
		if got, err := l.replace(t.Context(), "token-1", true); err != nil || got != "token-1" {
			t.Errorf("%s, %v", string(got), err)
		}
		// Near its maximum renewing ends.
		f.set(func() { f.renewTTL = func(int) time.Duration { return time.Minute } })
		elapse(48 * time.Hour)
		if _, renewals, _ := f.take(); renewals != 1 {
			t.Errorf("%d renewals near the end", renewals)
		}
		wantToken(t, l, "token-1") // Vault knows best whether it is over
	})
}

func TestGivenTokenIsLookedUp(t *testing.T) {
	for _, tc := range []struct {
		name              string
		f                 *fakeLogin
		lookups, renewals int
	}{
		{"without end", &fakeLogin{}, 1, 0},
		{"not renewable", &fakeLogin{ttl: time.Hour, fixed: true}, 1, 0},
		{"may not look", &fakeLogin{ttl: time.Hour, lookErr: classed(kms.Denied)}, 1, 0},
		{"Vault is down", &fakeLogin{ttl: time.Hour, lookErr: classed(kms.Unavailable)}, 120, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.f.isGiven = true
				l := tc.f.start(t)
				wantToken(t, l, "token-1")
				if _, _, lookups := tc.f.take(); lookups != 0 {
					t.Error("looked up before anybody had to wait")
				}
				for range 60 {
					elapse(time.Minute)
					wantToken(t, l, "token-1")
				}
				if logins, renewals, lookups := tc.f.take(); logins != 1 || lookups > tc.lookups || lookups == 0 || renewals != tc.renewals {
					t.Errorf("%d logins, %d renewals, %d lookups", logins, renewals, lookups)
				}
			})
		})
	}
}

func TestGivenTokenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: 24 * time.Hour, isGiven: true}
		l := f.start(t)
		wantToken(t, l, "token-1")
		f.dirty.Store(true)
		wantToken(t, l, "token-1") // without a wait
		synctest.Wait()
		wantToken(t, l, "token-2")
		// One that cannot be read for now changes nothing, and is not read all the time.
		f.set(func() { f.err = classed(kms.Unavailable) })
		for range 100 {
			f.dirty.Store(true)
			wantToken(t, l, "token-2")
			synctest.Wait()
		}
		if logins, _, _ := f.take(); logins != 3 {
			t.Errorf("read %d times", logins)
		}
		f.set(func() { f.err = nil })
		f.dirty.Store(true)
		elapse(rememberTransient)
		if got, err := l.replace(t.Context(), "token-2", true); err != nil || got != "token-4" {
			t.Errorf("%s, %v", string(got), err)
		}
	})
}

// Vault refuses a token for good: no renewal every second follows.
func TestGivenTokenHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour, isGiven: true}
		l := f.start(t)
		wantToken(t, l, "token-1")
		elapse(time.Second) // it is looked up
		f.set(func() { f.renewErr = classed(kms.Denied) })
		elapse(2 * time.Hour)
		f.take()
		elapse(time.Hour)
		if _, renewals, _ := f.take(); renewals > 120 {
			t.Errorf("%d renewals in the hour after its end", renewals)
		}
	})
}

// Keys that share a login need not be in one namespace: where Vault takes its token
// for the one and never for the other, the other must not have it replaced all the
// time.
func TestTokenIsTakenHereAndNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLogin{ttl: time.Hour}
		l := f.start(t)
		for range 600 {
			token, err := l.token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			l.accepted.Store(true) // the one key
			if _, err := l.replace(t.Context(), token, true); err != nil {
				t.Fatal(err) // the other
			}
			elapse(100 * time.Millisecond)
		}
		if logins, _, _ := f.take(); logins < 10 || logins > 2+maxBlames+int(time.Minute/perBlame) {
			t.Errorf("%d logins in a minute", logins)
		}
	})
}
