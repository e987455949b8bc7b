package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms/resilience"
)

// shown returns the value of a field's target and its bounds, as docs/policy.md writes them.
func shown(v value) (now, bounds string) {
	switch v := v.(type) {
	case numberValue:
		return fmt.Sprint(*v.out), fmt.Sprintf("%d to %d", v.least, v.most)
	case durationValue:
		least := short(v.least)
		if v.least == 0 {
			least = "0"
		}
		return short(*v.out), least + " to " + short(v.most)
	case sizeValue:
		return fmt.Sprintf("%dGiB", *v.out/gib), fmt.Sprintf("1 to %dGiB", v.most/gib)
	case percentValue:
		return fmt.Sprintf("%.0f%%", 100**v.out), fmt.Sprintf("%d%% to %d%%", v.least, v.most)
	case boolValue:
		return fmt.Sprint(*v.out), ""
	case patternValue:
		return "anything", ""
	}
	return "", ""
}

// within reports whether the targets of all fields are within their bounds.
func within(s schema) bool {
	return !slices.ContainsFunc(s.fields, func(f field) bool {
		switch v := f.value.(type) {
		case numberValue:
			return int64(*v.out) < v.least || int64(*v.out) > v.most
		case durationValue:
			return *v.out < v.least || *v.out > v.most
		case sizeValue:
			return *v.out < 1 || *v.out > v.most
		case percentValue:
			return *v.out < float64(v.least)/100 || *v.out > float64(v.most)/100
		case schema:
			return !within(v)
		}
		return false
	})
}

// fill sets the targets of all fields to their least, or to their most.
func fill(s schema, most bool) {
	end := func(least, end int64) int64 {
		if most {
			return end
		}
		return least
	}
	for _, f := range s.fields {
		switch v := f.value.(type) {
		case numberValue:
			*v.out = int(end(v.least, v.most))
		case durationValue:
			*v.out = time.Duration(end(int64(v.least), int64(v.most)))
		case sizeValue:
			*v.out = end(1, v.most)
		case percentValue:
			*v.out = float64(end(v.least, v.most)) / 100
		case schema:
			fill(v, most)
		}
	}
}

// The reference has each mapping's table as the schema declares it: fields in order, sentences, defaults and ranges.
func TestDocsTables(t *testing.T) {
	text := readDocs(t)
	for _, s := range schemas() {
		header, rule := "| field | value | default |", "|---|---|---|"
		ranged := slices.ContainsFunc(s.fields, func(f field) bool { _, bounds := shown(f.value); return bounds != "" })
		if ranged {
			header, rule = header+" range |", rule+"---|"
		}
		rows := []string{header, rule}
		for _, f := range s.fields {
			now, bounds := shown(f.value)
			cells := []string{"`" + f.name + "`", f.doc, cmp.Or(f.without, now)}
			if f.missing != "" {
				cells[2] = "required"
			}
			if ranged {
				cells = append(cells, bounds)
			}
			rows = append(rows, strings.ReplaceAll("| "+strings.Join(cells, " | ")+" |", "  ", " "))
		}
		table := strings.Join(rows, "\n") + "\n\n"
		if !strings.Contains(text, table) {
			t.Errorf("%s does not hold the table of %s:\n%s", docsFile, s.section, table)
		}
	}
}

// The packages below accept what a policy file may say.
func TestBoundsAgree(t *testing.T) {
	var d DataKey
	fill(dataKeySchema("", &d), true)
	want := DataKey{MaxPayloads: envelope.MaxPayloadsPerDataKey, MaxAge: envelope.MaxDataKeyAge, MaxBytes: envelope.MaxBytesPerDataKey, SealGrace: envelope.MaxSealGrace}
	if d != want {
		t.Errorf("the most of dataKey is %+v, of envelope %+v", d, want)
	}
	if maxNamespace != format.MaxNamespace || maxRuleKeys != format.MaxRecipients {
		t.Error("the limits of packages policy and envelope/format differ")
	}
	for _, most := range []bool{false, true} {
		var x Resilience
		fill(resilienceSchema("", &x), most)
		c := resilience.Config{
			Timeout: x.Timeout, Attempts: x.Attempts, RetryBudget: x.RetryBudget, Concurrency: x.Concurrency, Queue: x.Queue,
			BreakerFailures: x.Breaker.Failures, BreakerOpenFor: x.Breaker.OpenFor,
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%+v is refused: %v", x, err)
		}
	}
}
