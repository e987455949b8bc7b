package kmstest

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

const realVariable = "WAXSEAL_TEST_FAKE_KEY"

// managedBackend opens what a Backend opens, with all powers, and notes what
// those are used for.
type managedBackend struct {
	*Backend
	closed int
}

func (b *managedBackend) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	key, err := b.Backend.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return &closing{key.(*Fake).Managed(), b}, nil
}

type closing struct {
	*Managed
	b *managedBackend
}

func (c *closing) Close() error { c.b.closed++; return nil }

func names(cases []conformance) []string {
	out := make([]string, len(cases))
	for i, c := range cases {
		out[i] = c.name
	}
	return out
}

func TestRunRealWithoutAKeyRunsNothing(t *testing.T) {
	t.Setenv(realVariable, " ")
	b := NewBackend()
	RunReal(t, realVariable, kms.NewRegistry(b))
	if n := b.Opened(); n != 0 {
		t.Errorf("%d keys were opened", n)
	}
}

func TestRunReal(t *testing.T) {
	b := &managedBackend{Backend: NewBackend()}
	registry := kms.NewRegistry(b)
	t.Run("one key", func(t *testing.T) {
		t.Setenv(realVariable, "fake://mine")
		RunReal(t, realVariable, registry)
	})
	if got := b.Fake("mine").Version(); got != "1" {
		t.Errorf("the key was rotated to version %s, and nobody allowed it", got)
	}
	t.Run("two keys", func(t *testing.T) {
		t.Setenv(realVariable, "fake://mine fake://other")
		t.Setenv(realVariable+"_ADMIN", "0")
		RunReal(t, realVariable, registry)
	})
	if b.Fake("mine").Version() != "1" || b.Fake("other").Version() != "1" {
		t.Error("a key was rotated, and _ADMIN=0")
	}
	t.Run("with the rights of an administrator", func(t *testing.T) {
		t.Setenv(realVariable, "fake://mine fake://other")
		t.Setenv(realVariable+"_ADMIN", "1")
		RunReal(t, realVariable, registry)
	})
	if b.Fake("mine").Version() != "2" || b.Fake("other").Version() != "1" {
		t.Errorf("an administrator's run left version %s of the key and %s of the other", b.Fake("mine").Version(), b.Fake("other").Version())
	}
	// Whatever was run, the key is left as it was.
	for _, name := range []string{"mine", "other"} {
		for _, v := range b.Fake(name).key.list() {
			if v.State != kms.VersionEnabled {
				t.Errorf("version %s of %s is %v", v.ID, name, v.State)
			}
		}
		wrapOne(t, b.Fake(name), nil)
	}
	if b.closed != b.Opened() || b.closed == 0 {
		t.Errorf("%d keys opened, %d closed", b.Opened(), b.closed)
	}
}

// What a real service is put through, and what not.
func TestRealCases(t *testing.T) {
	registry := kms.NewRegistry(&managedBackend{Backend: NewBackend()})
	t.Setenv(realVariable, "fake://mine")
	least, _ := realHarness(t, realVariable, registry)
	t.Setenv(realVariable, "fake://mine fake://other")
	t.Setenv(realVariable+"_ADMIN", "true")
	most, _ := realHarness(t, realVariable, registry)
	for name, h := range map[string]Harness{"least": least, "most": most} {
		if problems := h.problems(t); problems != nil {
			t.Errorf("%s: %v", name, problems)
		}
		for power, given := range h.powers(h.NewKey(t)) {
			if _, lacks := h.Lacks[power]; !given && !lacks {
				t.Errorf("%s: nothing says why %s is lacking", name, power)
			}
		}
	}
	for _, tc := range []struct {
		name        string
		least, most bool
	}{
		{"round trip", true, true},
		{"batch of 1,000 keeps order", true, true},
		{"rewrap keeps the data key and the context", true, true},
		{"Probe describes a healthy key", true, true},
		{"wrong key is refused", false, true},
		{"rewrap from another key, if it takes it", false, true},
		{"Rotate gives a new primary, and old data opens", false, true},
		{"Destroy and Restore the key", false, false},
		{"Disable and Enable a version", false, false},
		{"an unknown version is refused", false, false},
		{"disabled key gives Disabled", false, false},
		{"key pending deletion gives Disabled", false, false},
		{"denied gives Denied", false, false},
		{"Probe fails as wrap does", false, false}, // nothing fails
	} {
		if got := slices.Contains(names(casesFor(least)), tc.name); got != tc.least {
			t.Errorf("%s: for one key %v", tc.name, got)
		}
		if got := slices.Contains(names(casesFor(most)), tc.name); got != tc.most {
			t.Errorf("%s: for an administrator %v", tc.name, got)
		}
	}
	if !strings.Contains(least.Lacks[PowerRotator], realVariable+"_ADMIN=1") || !strings.Contains(least.Lacks[PowerOther], realVariable) {
		t.Errorf("what is left out does not say how to have it: %v", least.Lacks)
	}
	// A backend without powers, and one that does not name versions.
	t.Setenv(realVariable, "fake://plain")
	plain, _ := realHarness(t, realVariable, kms.NewRegistry(NewBackend()))
	for _, power := range []Power{PowerRewrapper, PowerRotator, PowerRetirer, PowerProber} {
		if !strings.Contains(plain.Lacks[power], "nothing of the kind") {
			t.Errorf("%s: %q", power, plain.Lacks[power])
		}
	}
}

func TestRealProblems(t *testing.T) {
	denied := NewBackend()
	denied.FailOpen(Err(kms.Denied))
	down := NewFake("down")
	down.Always(Fail(kms.Unavailable))
	for _, tc := range []struct {
		name, keys, admin string
		backend           *Backend
		want              string
	}{
		{"three keys", "fake://a fake://b fake://c", "", NewBackend(), "3 key URIs"},
		{"not a switch", "fake://a", "yes please", NewBackend(), "neither true nor false"},
		{"the same key twice", "fake://a fake://a", "", NewBackend(), "twice"},
		{"no URI", "arn:aws:kms", "", NewBackend(), realVariable},
		{"cannot be opened", "fake://a", "", denied, "denied"},
		{"does not wrap", "fake://down", "", NewBackend(down), "unavailable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(realVariable, tc.keys)
			t.Setenv(realVariable+"_ADMIN", tc.admin)
			r := &recorder{TB: t}
			func() {
				defer r.caught()
				realHarness(r, realVariable, kms.NewRegistry(tc.backend))
			}()
			if len(r.failures) != 1 || !strings.Contains(r.failures[0], tc.want) {
				t.Errorf("failures %q, want one about %q", r.failures, tc.want)
			}
		})
	}
}
