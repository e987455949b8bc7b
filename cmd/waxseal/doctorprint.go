package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/doctor"
	"github.com/waxseal/waxseal/internal/terminal"
)

// sparkColumns is how wide a sparkline is at most.
const sparkColumns = 40

// doctorJSON is what "doctor --json" prints.
type doctorJSON struct {
	// OK says whether no key fails.
	OK   bool         `json:"ok"`
	Role string       `json:"role"`
	Keys []doctorItem `json:"keys"`
}

// doctorItem is one key, for one namespace.
type doctorItem struct {
	Name      string         `json:"name"`
	Namespace string         `json:"namespace"`
	URI       string         `json:"uri"`
	ID        string         `json:"id,omitempty"`
	Status    string         `json:"status"` // pass, warn or fail
	Checks    []doctorCheck  `json:"checks"`
	Latency   *doctorLatency `json:"latency,omitempty"`
}

type doctorCheck struct {
	Check  string `json:"check"`
	Status string `json:"status"`          // pass, skip, warn or fail
	Class  string `json:"class,omitempty"` // a kms.Class
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// doctorLatency is in milliseconds.
type doctorLatency struct {
	Call  string    `json:"call"`
	Calls int       `json:"calls"`
	Min   float64   `json:"minMs"`
	P50   float64   `json:"p50Ms"`
	P99   float64   `json:"p99Ms"`
	Max   float64   `json:"maxMs"`
	Each  []float64 `json:"eachMs"`
}

func reportDoctor(role string, results []doctor.Result) *doctorJSON {
	report := &doctorJSON{OK: true, Role: role, Keys: []doctorItem{}}
	for _, r := range results {
		status := r.Status()
		report.OK = report.OK && status != doctor.Fail
		item := doctorItem{Name: r.Name, Namespace: r.Namespace, URI: r.URI, ID: r.ID, Status: status.String()}
		for _, c := range r.Checks {
			check := doctorCheck{Check: c.Name, Status: c.Status.String(), Detail: c.Detail, Hint: c.Hint}
			if c.Class != nil {
				check.Class = c.Class.String()
			}
			item.Checks = append(item.Checks, check)
		}
		if t := r.Times; t != nil {
			item.Latency = &doctorLatency{
				Call: t.Call, Calls: len(t.Each), Min: inMs(t.Min()), P50: inMs(t.Percentile(50)), P99: inMs(t.Percentile(99)), Max: inMs(t.Max()),
			}
			for _, d := range t.Each {
				item.Latency.Each = append(item.Latency.Each, inMs(d))
			}
		}
		report.Keys = append(report.Keys, item)
	}
	return report
}

// inMs is d in milliseconds, to the microsecond.
func inMs(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// problem is the error if a key fails.
func (d *doctorJSON) problem() error {
	var failed []string
	for _, k := range d.Keys {
		if k.Status == doctor.Fail.String() {
			failed = append(failed, label(k.Name, k.Namespace, d.repeated(k.Name)))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return advise(fmt.Errorf("%d of %d keys failed: %s", len(failed), len(d.Keys), strings.Join(failed, ", ")), "each failure above has a hint of its own")
}

// repeated reports whether a key was examined for several namespaces.
func (d *doctorJSON) repeated(name string) bool {
	n := 0
	for _, k := range d.Keys {
		if k.Name == name {
			n++
		}
	}
	return n > 1
}

// label names a key, with its namespace if the key was examined for several.
func label(name, namespace string, repeated bool) string {
	if repeated {
		return name + " for " + namespace
	}
	return name
}

// printDoctor writes the checks of each key, a table of all latencies, and a good verdict: a bad one is an error.
func (a *app) printDoctor(results []doctor.Result) error {
	report := reportDoctor("", results)
	style := terminal.StyleFor(a.out, a.lookup)
	var b strings.Builder
	latency := terminal.Table{Header: []string{"KEY", "CALL", ">CALLS", ">MIN", ">P50", ">P99", ">MAX", "EACH CALL"}}
	measured, warned := false, 0
	for _, r := range results {
		name := label(r.Name, r.Namespace, report.repeated(r.Name))
		b.WriteString(style.Bold(terminal.Escape(name)) + "\n")
		fmt.Fprintf(&b, "%s, for namespace %s\n\n", terminal.Escape(r.URI), terminal.Escape(r.Namespace))
		writeChecks(&b, r.Checks, style)
		b.WriteString("\n")
		if r.Status() == doctor.Warn {
			warned++
		}
		if t := r.Times; t != nil {
			measured = true
			each := make([]int64, len(t.Each))
			for i, d := range t.Each {
				each[i] = int64(d)
			}
			latency.Row(name, t.Call, strconv.Itoa(len(each)), doctor.Short(t.Min()), doctor.Short(t.Percentile(50)), doctor.Short(t.Percentile(99)), doctor.Short(t.Max()),
				terminal.Sparkline(each, sparkColumns, terminal.UTF8(a.lookup)))
		}
	}
	if _, err := fmt.Fprint(a.out, b.String()); err != nil {
		return err
	}
	if measured {
		if err := latency.Write(a.out, style); err != nil {
			return err
		}
	}
	if !report.OK {
		return nil
	}
	verdict := fmt.Sprintf("%d of %d keys pass", len(results), len(results))
	if warned > 0 {
		verdict += fmt.Sprintf(", %d with warnings", warned)
	}
	if measured {
		verdict = "\n" + verdict
	}
	_, err := fmt.Fprintln(a.out, verdict)
	return err
}

// writeChecks writes a line for each check, and one for those skipped at the end for one reason.
func writeChecks(b *strings.Builder, checks []doctor.Check, style terminal.Style) {
	rest := len(checks)
	for rest > 0 && checks[rest-1].Status == doctor.Skip && checks[rest-1].Detail == checks[len(checks)-1].Detail {
		rest--
	}
	if len(checks)-rest < 3 {
		rest = len(checks)
	}
	line := func(name string, c doctor.Check) {
		fmt.Fprintf(b, "  %s  %-11s  %s\n", statusLabel(c.Status, style), name, terminal.Escape(c.Detail))
		if c.Hint != "" {
			fmt.Fprintf(b, "                     %s %s\n", style.Hint("hint:"), terminal.Escape(c.Hint))
		}
	}
	for _, c := range checks[:rest] {
		line(c.Name, c)
	}
	if rest < len(checks) {
		line("the rest", checks[rest])
	}
}

// statusLabel is as wide for each status.
func statusLabel(s doctor.Status, style terminal.Style) string {
	switch s {
	case doctor.Pass:
		return "ok  "
	case doctor.Warn:
		return style.Warning("warn")
	case doctor.Fail:
		return style.Error("FAIL")
	default:
		return "-   "
	}
}
