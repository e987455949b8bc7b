package kmstest

import (
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// Harness is what the suite needs to put one backend through its cases. The
// functions report their own failures with t.Fatal and clean up with t.Cleanup.
type Harness struct {
	// NewKey returns a key that was not used before. Required.
	NewKey func(t testing.TB) kms.Key
	// OtherKey returns a key with another ID and other key material than any
	// other key of the test, in the same KMS; often NewKey again.
	OtherKey func(t testing.TB) kms.Key
	// Reopen returns a second, independent handle to the key: what another
	// process would hold. Required.
	Reopen func(t testing.TB, key kms.Key) kms.Key
	// Hasty returns a handle to the key that waits for an answer no longer than
	// half a second, if the backend has a timeout of its own.
	Hasty func(t testing.TB, key kms.Key) kms.Key

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
	// ScheduleDeletion schedules the deletion of the whole key.
	ScheduleDeletion func(t testing.TB, key kms.Key)

	// Faults make every request about key fail in one way, through all handles,
	// until heal is called. heal also ends what still hangs.
	Faults map[Power]func(t testing.TB, key kms.Key) (heal func())

	// VersionTold says that the KMS names the version that wrapped a data key. Where it
	// does not, Wrapped.Version is always empty.
	VersionTold bool

	// Credentials are what the keys were opened with and no error or report may
	// show: tokens, secret keys. Those shorter than 15 bytes are not looked for.
	Credentials []string

	// Lacks names each Power that is not given, and why it cannot be had. A Power
	// that is neither given nor listed here fails the suite: nothing is left out
	// in silence.
	Lacks map[Power]string

	// real says that this is no test server: see RunReal.
	real bool
}

// powers returns all powers there are, and whether h has each; key is one of
// its keys, nil if there is none.
func (h Harness) powers(key kms.Key) map[Power]bool {
	_, rewrapper := kms.As[kms.Rewrapper](key)
	_, rotator := kms.As[kms.Rotator](key)
	_, retirer := kms.As[kms.Retirer](key)
	_, prober := kms.As[kms.Prober](key)
	given := map[Power]bool{
		PowerOther: h.OtherKey != nil, PowerRotate: h.Rotate != nil, PowerDisable: h.Disable != nil,
		PowerDisableVersion: h.DisableVersion != nil, PowerDestroyVersion: h.DestroyVersion != nil,
		PowerPendingDeletion: h.ScheduleDeletion != nil, PowerHasty: h.Hasty != nil,
		PowerRewrapper: rewrapper, PowerRotator: rotator, PowerRetirer: retirer, PowerProber: prober,
	}
	for _, p := range faultPowers() {
		given[p] = h.Faults[p] != nil
	}
	return given
}

// problems lists what is wrong with the harness itself.
func (h Harness) problems(t testing.TB) []string {
	var out []string
	var key kms.Key
	if h.NewKey == nil {
		out = append(out, "NewKey is nil")
	} else {
		key = h.NewKey(t)
	}
	if h.Reopen == nil {
		out = append(out, "Reopen is nil")
	}
	if (h.Disable == nil) != (h.Enable == nil) {
		out = append(out, "Disable and Enable come together")
	}
	given := h.powers(key)
	for p, there := range given {
		reason, lacks := h.Lacks[p]
		switch {
		case there && lacks && !h.real:
			out = append(out, "Lacks names a power that is there: "+string(p))
		case !there && !lacks:
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
	for p := range h.Faults {
		if !slices.Contains(faultPowers(), p) {
			out = append(out, "Faults names an unknown fault: "+string(p))
		}
	}
	slices.Sort(out)
	return out
}

// credentials returns h.Credentials as checkError takes secrets.
func (h Harness) credentials() [][]byte {
	out := make([][]byte, len(h.Credentials))
	for i, c := range h.Credentials {
		out[i] = []byte(c)
	}
	return out
}
