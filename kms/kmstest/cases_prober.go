package kmstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func proberCases() []conformance {
	only := []Power{PowerProber}
	return []conformance{
		{name: "Probe describes a healthy key", needs: only, check: checkProbe},
		{name: "Probe under an ended context gives Canceled", needs: only, check: checkProbeEnded},
		{name: "Probe of a disabled key gives Disabled", needs: []Power{PowerProber, PowerDisable}, check: checkProbeDisabled},
		{name: "Probe fails as wrap does", needs: only, testOnly: true, check: checkProbeFaults},
		{name: "Probe ends with its caller when stalled", needs: []Power{PowerProber, FaultStall}, check: checkProbeStalled},
	}
}

// proberOf returns the key's power to probe, which the harness says it has.
func proberOf(t testing.TB, key kms.Key) kms.Prober {
	t.Helper()
	p, ok := kms.As[kms.Prober](key)
	if !ok {
		t.Fatalf("%T is no kms.Prober, but another key of the harness is", key)
	}
	return p
}

func checkProbe(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, when := range []string{"before it was used", "after it was used"} {
		report, err := proberOf(t, key).Probe(t.Context())
		if err != nil {
			t.Fatalf("Probe of a key %s: %v", when, err)
		}
		if strings.TrimSpace(report.Key) == "" {
			t.Errorf("%s: the report does not describe the key", when)
		}
		if !report.Expires.IsZero() && report.Expires.Before(time.Now()) {
			t.Errorf("%s: credentials that work have expired at %v", when, report.Expires)
		}
		if !report.SkewKnown && report.Skew != 0 || !h.real && report.Skew.Abs() > time.Minute {
			t.Errorf("%s: the KMS's clock is ahead by %v (known: %v)", when, report.Skew, report.SkewKnown)
		}
		for _, w := range report.Warnings {
			if strings.TrimSpace(w) == "" {
				t.Errorf("%s: an empty warning", when)
			}
		}
		dataKey, wrapped := wrapOne(t, key, testContext())
		text := fmt.Sprintf("%v %+v %#v", report, report, report)
		for _, secret := range append(h.credentials(), dataKey, wrapped.Blob) {
			if how := leaks(text, secret, key.ID()); how != "" {
				t.Errorf("%s: the report holds a credential, data key or blob, %s", when, how)
			}
		}
		mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey})
	}
}

func checkProbeEnded(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for cause, ctx := range ended(t) {
		_, err := proberOf(t, key).Probe(ctx)
		if err == nil {
			t.Errorf("Probe under a context that ended (%v): answered", cause)
			continue
		}
		checkOf(t, "Probe", key, err, []kms.Class{kms.Canceled})
		if !errors.Is(err, cause) {
			t.Errorf("Probe: errors.Is(err, %q) is false", cause)
		}
	}
}

func checkProbeDisabled(t testing.TB, h Harness) {
	key := h.NewKey(t)
	h.Disable(t, key)
	if _, err := proberOf(t, key).Probe(t.Context()); err == nil {
		t.Error("Probe of a disabled key: no error")
	} else {
		checkOf(t, "Probe", key, err, []kms.Class{kms.Disabled})
	}
	h.Enable(t, key)
	if _, err := proberOf(t, key).Probe(t.Context()); err != nil {
		t.Errorf("Probe of a key that was enabled again: %v", err)
	}
}

func checkProbeFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, key kms.Key, _ [][]byte, _ []kms.Wrapped) {
		_, err := proberOf(t, key).Probe(ctx)
		failsAs(t, h, p, "Probe", key, err)
	})
}

func checkProbeStalled(t testing.TB, h Harness) {
	stalled(t, h, 1, func(key kms.Key, _ [][]byte, _ []kms.Wrapped) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		_, err := proberOf(t, key).Probe(ctx)
		if took := time.Since(began); took > patience+promptly {
			t.Errorf("Probe took %v after its caller had given up", took-patience)
		}
		if err == nil {
			t.Error("Probe of a KMS that stalls: answered")
			return
		}
		checkOf(t, "Probe", key, err, []kms.Class{kms.Canceled}, h.credentials()...)
	})
}
