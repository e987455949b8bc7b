package kmstest

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Power is something that not every backend's tests can do to a key, or to its
// KMS. One that they cannot is named in Harness.Lacks, with the reason.
type Power string

const (
	// PowerOther is having a second key: Harness.OtherKey.
	PowerOther Power = "other key"
	// PowerRotate is making a new version of a key: Harness.Rotate.
	PowerRotate Power = "rotate"
	// PowerDisable is switching a key off and on: Harness.Disable and Harness.Enable.
	PowerDisable Power = "disable"
	// PowerDisableVersion is switching off one version of a key: Harness.DisableVersion.
	PowerDisableVersion Power = "disable version"
	// PowerDestroyVersion is destroying one version of a key: Harness.DestroyVersion.
	PowerDestroyVersion Power = "destroy version"
	// PowerPendingDeletion is having a key wait for its deletion: Harness.ScheduleDeletion.
	PowerPendingDeletion Power = "pending deletion"
)

// Fault powers: what can be made to go wrong between us and a KMS, through
// Harness.Faults. Each lasts until the function that it returns is called.
const (
	// FaultDenied: our identity may not use the key.
	FaultDenied Power = "denied"
	// FaultThrottled: the KMS refuses for quota and does not say for how long.
	FaultThrottled Power = "throttled"
	// FaultThrottledFor: likewise, and says to come back in ThrottledFor.
	FaultThrottledFor Power = "throttled for a time"
	// FaultExpired: our credentials have expired and cannot be renewed.
	FaultExpired Power = "expired credentials"
	// FaultDown: nothing listens at the KMS's address, or nothing can be read there.
	FaultDown Power = "down"
	// FaultServerError: the KMS answers that it has a problem (HTTP 500, gRPC INTERNAL).
	FaultServerError Power = "server error"
	// FaultStall: the KMS takes the request, or sends headers, and then nothing more.
	FaultStall Power = "stall"
	// FaultReset: the connection breaks in the middle of the answer.
	FaultReset Power = "reset"
	// FaultNotTheKMS: something on the way answers in the KMS's place, such as a login page.
	FaultNotTheKMS Power = "not the KMS"
	// FaultWrongKey: the answer says that another key did it.
	FaultWrongKey Power = "wrong key"
	// FaultShortPlaintext: an unwrap answers with fewer bytes than a data key has.
	FaultShortPlaintext Power = "short plaintext"
	// FaultRequestDamaged: the KMS says that what it received fails its checksum.
	FaultRequestDamaged Power = "request damaged"
	// FaultAnswerDamaged: what comes back fails its checksum, or its integrity otherwise.
	FaultAnswerDamaged Power = "answer damaged"
	// FaultHugeAnswer: the answer is of many megabytes.
	FaultHugeAnswer Power = "huge answer"
)

// ThrottledFor is how long FaultThrottledFor says to wait.
const ThrottledFor = 7 * time.Second

// Harness is what the suite needs to put one backend through its cases. The
// functions report their own failures with t.Fatal and clean up with t.Cleanup.
type Harness struct {
	// NewKey returns a key of which nothing was asked before. Required.
	NewKey func(t testing.TB) kms.Key
	// OtherKey returns a key with another ID and other key material than any
	// other key of the test, in the same KMS; often NewKey again.
	OtherKey func(t testing.TB) kms.Key
	// Reopen returns a second, independent handle to the key: what another
	// process would hold. Required.
	Reopen func(t testing.TB, key kms.Key) kms.Key

	// Rotate gives key a new version, which wraps from then on.
	Rotate func(t testing.TB, key kms.Key)
	// Disable switches the whole key off: neither wraps nor unwraps.
	Disable func(t testing.TB, key kms.Key)
	// Enable switches it on again.
	Enable func(t testing.TB, key kms.Key)
	// DisableVersion switches one version off, the oldest enabled one.
	DisableVersion func(t testing.TB, key kms.Key, version string)
	// DestroyVersion destroys one version for good, the oldest one.
	DestroyVersion func(t testing.TB, key kms.Key, version string)
	// ScheduleDeletion has the whole key wait for its deletion.
	ScheduleDeletion func(t testing.TB, key kms.Key)

	// Faults make every request about key fail in one way, until heal is called.
	Faults map[Power]func(t testing.TB, key kms.Key) (heal func())

	// VersionTold says that the KMS tells which version wrapped a data key. Where
	// it does not, Wrapped.Version is always empty.
	VersionTold bool

	// Lacks names each Power that is not given, and why it cannot be had. A Power
	// that is neither given nor listed here fails the suite: nothing is left out
	// in silence.
	Lacks map[Power]string
}

// problems lists what is wrong with the harness itself.
func (h Harness) problems() []string {
	var out []string
	if h.NewKey == nil {
		out = append(out, "NewKey is nil")
	}
	if h.OtherKey == nil {
		out = append(out, "OtherKey is nil")
	}
	if h.Reopen == nil {
		out = append(out, "Reopen is nil")
	}
	if (h.Disable == nil) != (h.Enable == nil) {
		out = append(out, "Disable and Enable come together")
	}
	given := map[Power]bool{PowerRotate: h.Rotate != nil, PowerDisable: h.Disable != nil}
	for _, p := range []Power{PowerRotate, PowerDisable} {
		reason, lacks := h.Lacks[p]
		switch {
		case given[p] && lacks:
			out = append(out, "Lacks names a power that is there: "+string(p))
		case !given[p] && !lacks:
			out = append(out, "neither given nor named in Lacks: "+string(p))
		case lacks && strings.TrimSpace(reason) == "":
			out = append(out, "Lacks gives no reason for "+string(p))
		}
	}
	for p := range h.Lacks {
		if _, known := given[p]; !known {
			out = append(out, "Lacks names an unknown power: "+string(p))
		}
	}
	slices.Sort(out)
	return out
}

// conformance is one case: a promise of kms.Key that every backend keeps.
type conformance struct {
	name  string
	needs Power // empty: every backend has what it takes
	check func(t testing.TB, h Harness)
}

// conformanceCases returns every case, in the order they run.
func conformanceCases() []conformance {
	return slices.Concat(basicCases(), refusalCases(), callerCases(), lifecycleCases())
}

// casesFor returns the cases that h has the powers for.
func casesFor(h Harness) []conformance {
	return slices.DeleteFunc(conformanceCases(), func(c conformance) bool {
		_, lacks := h.Lacks[c.needs]
		return lacks
	})
}

// Run puts the backend behind h through the conformance suite, one subtest a
// case. It fails if h is incomplete, and if not every case ran for which h has
// the powers. Cases run one after the other; Run may be called in parallel tests.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, p := range h.problems() {
		t.Errorf("kmstest: harness: %s", p)
	}
	if t.Failed() {
		t.FailNow()
	}
	cases := casesFor(h)
	ran := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ran++
			c.check(t, h)
		})
	}
	if ran != len(cases) && !subtestsChosen() {
		t.Errorf("kmstest: %d of %d cases ran", ran, len(cases))
	}
	for p, reason := range h.Lacks {
		t.Logf("kmstest: without %s: %s", p, reason)
	}
}

// subtestsChosen reports whether somebody asked for some subtests only, with
// -run Test/case or -skip.
func subtestsChosen() bool {
	run, skip := flag.Lookup("test.run"), flag.Lookup("test.skip")
	return run != nil && strings.Contains(run.Value.String(), "/") || skip != nil && skip.Value.String() != ""
}
