package hostile

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// faults are the findings, one line each.
func (a *adversary) faults() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := make([]string, 0, len(a.findings))
	for f, e := range a.findings {
		lines = append(lines, fmt.Sprintf("%s: %s [%s; %s] %d times; WAXSEAL_HOSTILE=%s repeats it", f.property, f.what, f.place, f.mutation, e.times, e.first))
	}
	slices.Sort(lines)
	return lines
}

// table prints how exchanges ended, and how often each place was altered.
func (a *adversary) table(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range sortedKeys(a.ends) {
		t.Logf("%6d %s, in %s", a.ends[k], k, a.took[k].Round(time.Millisecond))
	}
	for _, k := range sortedKeys(a.hits) {
		var each []string
		total := 0
		for _, m := range sortedKeys(a.hits[k]) {
			each = append(each, fmt.Sprintf("%s %d", m, a.hits[k][m]))
			total += a.hits[k][m]
		}
		t.Logf("%6d %s: %s", total, k, strings.Join(each, ", "))
	}
}

// missed fails the test if a run that is long enough for all places and mutations left one out.
func (a *adversary) missed(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if countOf(t) < countUsual {
		return
	}
	for _, m := range mutations {
		if !slices.ContainsFunc(sortedKeys(a.hits), func(k string) bool { return a.hits[k][m.name] > 0 }) {
			t.Errorf("never done: %s", m.name)
		}
	}
	for p := range apiPlaces(services()) {
		if a.hits[p] == nil && !slices.ContainsFunc(unreads, func(u unread) bool { return u.excuses(p) }) {
			t.Errorf("never altered: %s", p)
		}
	}
}

// progress prints the progress of a long run from time to time.
func (a *adversary) progress(done, of int64) {
	if os.Getenv("WAXSEAL_SOAK") == "1" && done%1000 == 0 {
		a.mu.Lock()
		faults := len(a.findings)
		a.mu.Unlock()
		fmt.Fprintf(os.Stderr, "%d of %d responses altered, %d kinds of faults\n", done, of, faults)
	}
}
