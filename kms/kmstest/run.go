package kmstest

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
)

// conformance is one case: a promise of kms.Key, or of a power that only some
// keys have, that every backend keeps.
type conformance struct {
	name  string
	needs []Power // all of them; none: every backend has what it takes
	// testOnly is set where a key or version may be lost if the backend errs, where
	// a change has to be seen at once, and where all is about faults that are made:
	// no case for a real service.
	testOnly bool
	check    func(t testing.TB, h Harness)
}

// conformanceCases returns every case, in the order they run.
func conformanceCases() []conformance {
	return slices.Concat(
		basicCases(), batchCases(), contextCases(), refusalCases(), callerCases(), lifecycleCases(),
		faultCases(), stallCases(), rewrapperCases(), rotatorCases(), proberCases(),
	)
}

// casesFor returns the cases that h has the powers for.
func casesFor(h Harness) []conformance {
	return slices.DeleteFunc(conformanceCases(), func(c conformance) bool {
		return c.testOnly && h.real || slices.ContainsFunc(c.needs, func(p Power) bool {
			_, lacks := h.Lacks[p]
			return lacks
		})
	})
}

// Run puts the backend behind h through the conformance suite, one subtest a
// case. It fails if h is incomplete, and if not every case ran for which h has
// the powers. Cases run one after the other; Run may be called in parallel tests.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, p := range h.problems(t) {
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
	t.Logf("kmstest: %d of the suite's %d cases ran", ran, len(conformanceCases()))
	for _, c := range conformanceCases() {
		if h.real && c.testOnly {
			t.Logf("kmstest: only for test servers: %s", c.name)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(h.Lacks)) {
		t.Logf("kmstest: without %s: %s", p, h.Lacks[p])
	}
}

// subtestsChosen reports whether the command line chooses some subtests, with
// -run Test/case or -skip.
func subtestsChosen() bool {
	run, skip := flag.Lookup("test.run"), flag.Lookup("test.skip")
	return run != nil && strings.Contains(run.Value.String(), "/") || skip != nil && skip.Value.String() != ""
}
