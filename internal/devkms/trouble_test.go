package devkms

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseTrouble(t *testing.T) {
	for _, tc := range []struct {
		line, which string
		want        Trouble
	}{
		{"aws down", "aws", Trouble{kind: down}},
		{"gcp up", "gcp", Trouble{}},
		{"all deny", "all", Trouble{kind: denied}},
		{"aws stall", "aws", Trouble{kind: stalled}},
		{"aws throttle", "aws", Trouble{kind: throttled}},
		{"gcp slow 300ms", "gcp", Trouble{slow: 300 * time.Millisecond}},
	} {
		which, got, err := ParseTrouble(strings.Fields(tc.line))
		if which != tc.which || got != tc.want || err != nil {
			t.Errorf("%s: %s %+v %v", tc.line, which, got, err)
		}
	}
	for _, line := range []string{"aws", "down", "azure down", "aws slow", "aws slow x", "aws slow -1s", "aws down now", "aws explode", "slow 1s"} {
		if _, _, err := ParseTrouble(strings.Fields(line)); !usage(err) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// usage reports whether err says that a line is wrong, and what to write instead.
func usage(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Usage && e.Hint() == rehearseAdvice
}
