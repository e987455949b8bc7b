package kmstest

import (
	"context"
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

func (s sample) probeCall(t testing.TB) call {
	t.Helper()
	return callOf("Probe", powerOf[kms.Prober](t, s.key).Probe)
}

func checkProbe(t testing.TB, h Harness) {
	key := h.NewKey(t)
	for _, when := range []string{"before it was used", "after it was used"} {
		report, err := powerOf[kms.Prober](t, key).Probe(t.Context())
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
		s := sampleOf(t, key, 1)
		text := fmt.Sprintf("%v %+v %#v", report, report, report)
		for _, secret := range append(h.credentials(), s.secrets()...) {
			if how := leaks(text, secret, key.ID()); how != "" {
				t.Errorf("%s: the report holds a credential, data key or blob, %s", when, how)
			}
		}
		s.opens(t)
	}
}

func checkProbeEnded(t testing.TB, h Harness) {
	s := sample{key: h.NewKey(t)}
	s.failEnded(t, s.probeCall(t))
}

func checkProbeDisabled(t testing.TB, h Harness) {
	s := sample{key: h.NewKey(t)}
	h.Disable(t, s.key)
	s.probeCall(t).fails(t.Context(), t, s, kms.Disabled)
	h.Enable(t, s.key)
	if _, err := s.probeCall(t).do(t.Context()); err != nil {
		t.Errorf("Probe of a key that was enabled again: %v", err)
	}
}

func checkProbeFaults(t testing.TB, h Harness) {
	eachFaultOnTheWay(t, h, func(ctx context.Context, p faultPromise, s sample) {
		p.checkCall(ctx, t, h, s, s.probeCall(t))
	})
}

func checkProbeStalled(t testing.TB, h Harness) {
	stalled(t, h, 1, func(s sample) {
		mustEnd(t, h, s, context.DeadlineExceeded, deadline, s.probeCall(t))
	})
}
