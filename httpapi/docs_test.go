package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// page is the documentation of this package.
const page = "../docs/codec-server.md"

// wantTable fails a test unless the page has a table with this head and rows.
func wantTable(t *testing.T, head string, rows []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), head+"\n")
	if !found {
		t.Fatalf("%s has no table %s", page, head)
	}
	_, rest, _ = strings.Cut(rest, "\n") // the line of dashes
	var got []string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	if !slices.Equal(got, rows) {
		t.Errorf("the table %s in %s should be:\n%s", head, page, strings.Join(rows, "\n"))
	}
}

func TestDocumentedStatuses(t *testing.T) {
	all := slices.Clone(problemTable[answered+1:])
	slices.SortStableFunc(all, func(a, b problem) int { return cmp.Compare(a.status, b.status) })
	var rows []string
	for _, p := range all {
		status := fmt.Sprint(p.status)
		if name := http.StatusText(p.status); name != "" {
			status += " " + name
		}
		if p.retryAfter > 0 {
			status += fmt.Sprintf(", `Retry-After: %d`", p.retryAfter)
		}
		rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |", status, p.name, p.text, strings.ReplaceAll(p.hint, `{"payloads":[…]}`, "`{\"payloads\":[…]}`")))
	}
	wantTable(t, "| status | problem | what the body says | and advises |", rows)
}

func TestDocumentedLimits(t *testing.T) {
	limits, problems := Limits{}.withDefaults()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	size := func(n int64) string {
		switch {
		case n%(1<<20) == 0:
			return fmt.Sprintf("%d MiB", n>>20)
		case n%(1<<10) == 0:
			return fmt.Sprintf("%d KiB", n>>10)
		}
		return fmt.Sprint(n)
	}
	// What each limit is of, and what happens beyond it.
	meaning := map[string][2]string{
		"HeaderBytes":    {"a request's header", "431"},
		"BodyBytes":      {"a request's body", "413 `body-size`"},
		"ReplyBytes":     {"an answer's body", "413 `reply-size`"},
		"HeldBytes":      {"the bodies in memory at one time, of all requests, and a quarter of what they take beyond four times that", "503 `overfull`"},
		"Payloads":       {"payloads in a request", "413 `payload-count`"},
		"EncodePayloads": {"payloads in an encode request", "413 `encode-count`"},
		"Sealing":        {"payloads in all encode requests in progress", "503 `sealing-full`"},
		"Entries":        {"metadata entries in a payload", "413 `metadata-count`"},
		"Requests":       {"requests in progress", "503 `overloaded`"},
		"Connections":    {"open connections", "the next one waits"},
		"HeaderTime":     {"reading a header", "the connection is closed"},
		"ReadTime":       {"reading a request", "408 `body-time`"},
		"CodecTime":      {"sealing or opening, the KMS included", "503 `timeout`"},
		"WriteTime":      {"from the header to the end of the answer", "the connection is closed"},
		"IdleTime":       {"between two requests of a connection", "the connection is closed"},
		"DrainTime":      {"finishing, when told to stop", "503 `timeout`"},
	}
	var rows []string
	for field, value := range reflect.ValueOf(limits).Fields() {
		text := fmt.Sprint(value.Interface())
		switch v := value.Interface().(type) {
		case int64:
			text = size(v)
		case int:
			if strings.HasSuffix(field.Name, "Bytes") {
				text = size(int64(v))
			}
		case time.Duration:
			text = fmt.Sprintf("%g s", v.Seconds())
		}
		m, ok := meaning[field.Name]
		if !ok {
			t.Errorf("what is %s?", field.Name)
		}
		if status, name, found := strings.Cut(m[1], " `"); found {
			if _, p := problemNamed(t, strings.TrimSuffix(name, "`")); fmt.Sprint(p.status) != status {
				t.Errorf("%s: the status is %d", m[1], p.status)
			}
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", field.Name, m[0], text, m[1]))
	}
	wantTable(t, "| limit | of | default | beyond it |", rows)
}

// The page names every metric, every setting and every header of ours.
func TestDocumentedNames(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, Config{})
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{headerNamespace, headerRequestID, headerUndecoded}
	for field := range reflect.TypeFor[Config]().Fields() {
		names = append(names, field.Name)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "waxseal_") {
			names = append(names, f.GetName())
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d names to look for", len(names))
	}
	for _, name := range names {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s says nothing of %s", page, name)
		}
	}
}
