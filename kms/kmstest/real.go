package kmstest

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// RunReal runs the cases of the suite that neither lose a key nor need the KMS to fail with
// a real KMS: some 40 of them with about 6,000 items. The environment variable called
// variable holds the key's URI and, after a space, optionally that of another key of the
// same KMS. The key is left as it is, unless the variable with "_ADMIN" at its end is true:
// then its Rotator is tried as well, which leaves a new version behind.
//
// Without the variable nothing is run, and the log says so. What is left out,
// and why, is in the log too (go test -v).
func RunReal(t *testing.T, variable string, registry *kms.Registry) {
	t.Helper()
	if h, ok := realHarness(t, variable, registry); ok {
		Run(t, h)
	}
}

// realHarness is what the environment says about a real service; ok is false if
// that is nothing.
func realHarness(t testing.TB, variable string, registry *kms.Registry) (h Harness, ok bool) {
	t.Helper()
	uris := strings.Fields(os.Getenv(variable))
	switch {
	case len(uris) == 0:
		t.Logf("kmstest: %s is not set: nothing was run against the real service", variable)
		return Harness{}, false
	case len(uris) > 2:
		t.Fatalf("kmstest: %s holds %d key URIs, want one or two", variable, len(uris))
	}
	admin := false
	if text := os.Getenv(variable + "_ADMIN"); text != "" {
		var err error
		if admin, err = strconv.ParseBool(text); err != nil {
			t.Fatalf("kmstest: %s_ADMIN is neither true nor false", variable)
		}
	}

	open := func(t testing.TB, uri string) kms.Key {
		t.Helper()
		key, err := registry.Open(t.Context(), uri)
		if err != nil {
			t.Fatalf("kmstest: open the key of %s: %v", variable, err)
		}
		if c, ok := kms.As[kms.Closer](key); ok {
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Errorf("close the key of %s: %v", variable, err)
				}
			})
		}
		return key
	}
	key := open(t, uris[0])
	wrapped, err := key.Wrap(t.Context(), newDataKeys(1), testContext())
	if err != nil || len(wrapped) != 1 {
		t.Fatalf("kmstest: the key of %s does not wrap: %d answers, error %v", variable, len(wrapped), err)
	}
	uriOf := map[string]string{key.ID(): uris[0]}
	h = Harness{
		NewKey: func(t testing.TB) kms.Key { t.Helper(); return open(t, uris[0]) },
		Reopen: func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return open(t, uriOf[key.ID()]) },

		VersionTold: wrapped[0].Version != "",
		real:        true,
	}
	if len(uris) == 2 {
		other := open(t, uris[1])
		if other.ID() == key.ID() {
			t.Fatalf("kmstest: %s names the key %s twice", variable, key.ID())
		}
		uriOf[other.ID()] = uris[1]
		h.OtherKey = func(t testing.TB) kms.Key { t.Helper(); return open(t, uris[1]) }
	}
	h.Lacks = h.reallyLacks(key, variable, admin)
	return h, true
}

// reallyLacks says why a real service lacks what h does not have, or may not use.
func (h Harness) reallyLacks(key kms.Key, variable string, admin bool) map[Power]string {
	lacks := map[Power]string{}
	for power, given := range h.powers(key) {
		switch {
		case (power == PowerRotator || power == PowerRetirer) && given && !admin:
			lacks[power] = "it would leave a version behind; " + variable + "_ADMIN=1 allows it"
		case given:
		case power == PowerOther:
			lacks[power] = variable + " names one key; a second URI after a space adds it"
		case power == PowerRewrapper || power == PowerRotator || power == PowerRetirer || power == PowerProber:
			lacks[power] = "keys of this backend have nothing of the kind"
		case power == PowerRotate || power == PowerDisable || power == PowerDisableVersion || power == PowerDestroyVersion || power == PowerPendingDeletion:
			lacks[power] = "a real key may be lost by it, and a change takes a real service minutes"
		default:
			lacks[power] = "a real service is not made to fail"
		}
	}
	return lacks
}
