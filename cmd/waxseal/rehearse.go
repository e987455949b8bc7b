package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"time"
)

const rehearseHint = "aws, gcp or all, then up, down, deny, stall, throttle, or slow with a duration: gcp slow 300ms"

// rehearse reads what is to go wrong, a line each, until there is nothing left to
// read. The servers go on after that.
func (a *app) rehearse(d *devServers) {
	lines := bufio.NewScanner(a.in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		which, t, err := parseTrouble(words)
		if err != nil {
			a.report(err)
			continue
		}
		d.goWrong(which, t)
		a.say(severityNote, strings.Join(words, " "))
	}
}

// parseTrouble reads the words of one line.
func parseTrouble(words []string) (which string, t trouble, err error) {
	kinds := map[string]troubleKind{"up": healthy, "down": down, "deny": denied, "stall": stalled, "throttle": throttled}
	bad := func() (string, trouble, error) {
		return "", trouble{}, &usageError{text: fmt.Sprintf("%q is not understood", strings.Join(words, " ")), hint: rehearseHint}
	}
	if len(words) < 2 || !slices.Contains([]string{"aws", "gcp", "all"}, words[0]) {
		return bad()
	}
	kind, known := kinds[words[1]]
	switch {
	case words[1] == "slow" && len(words) == 3:
		slow, err := time.ParseDuration(words[2])
		if err != nil || slow < 0 {
			return bad()
		}
		return words[0], trouble{slow: slow}, nil
	case known && len(words) == 2:
		return words[0], trouble{kind: kind}, nil
	}
	return bad()
}
