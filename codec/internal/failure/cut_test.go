package failure

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// awkward texts cover all the ways in which JSON encodes text.
var awkward = map[string]string{
	"plain":         strings.Repeat("abcdefghij", 100),
	"a trace":       strings.Repeat("main.f(...)\n\t/src/main.go:12 +0x1d\n", 30),
	"escapes":       strings.Repeat("\"\\\r\b\f\x00\x1f<&>\u2028\u2029\x7f", 80),
	"wide":          strings.Repeat("Grüße, 世界 🌍 ", 60),
	"broken UTF-8":  strings.Repeat("a\xffé\xc3\xe4\xb8\xf0\x9f", 90),
	"a real \uFFFD": strings.Repeat("\uFFFD", 300),
}

func TestJSONSize(t *testing.T) {
	for name, s := range awkward {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := jsonSize(s), len(b)-len(`""`); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for name, s := range awkward {
		for size := 16; size < jsonSize(s); size += 7 {
			got := cut(s, messageMark, size)
			head, tail, marked := strings.Cut(got, messageMark)
			if !marked || jsonSize(got) > size || jsonSize(got) < size-2*len(`\u003c`) {
				t.Fatalf("%s: %d bytes of %d, %q", name, jsonSize(got), size, got)
			}
			if !strings.HasPrefix(s, head) || !strings.HasSuffix(s, tail) || utf8.ValidString(s) && !utf8.ValidString(got) {
				t.Fatalf("%s: %q does not have the begin and the end of %q", name, got, s)
			}
		}
		if got := cut(s, messageMark, jsonSize(s)); got != s {
			t.Errorf("%s: cut needlessly, to %q", name, got)
		}
	}
}

func TestCutAll(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	sizes := func(texts []Text) (out [][2]int) {
		for _, text := range texts {
			out = append(out, [2]int{len(text.Message), len(text.StackTrace)})
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		texts []Text
		room  int
		want  [][2]int // bytes of messages and traces; nil if it does not fit
	}{
		{"all fits", []Text{{long(100), long(200)}, {long(10), ""}}, 310, [][2]int{{100, 200}, {10, 0}}},
		{"the inner trace is cut", []Text{{long(10), long(300)}, {long(10), long(300)}}, 500, [][2]int{{10, 300}, {10, 180}}},
		{"the inner trace is dropped", []Text{{long(10), long(300)}, {long(10), long(300)}}, 400, [][2]int{{10, 300}, {10, 0}}},
		{"the outer trace is cut", []Text{{long(10), long(300)}, {long(10), long(300)}}, 220, [][2]int{{10, 200}, {10, 0}}},
		{"a short inner trace stays", []Text{{long(10), long(300)}, {long(10), long(50)}}, 370, [][2]int{{10, 300}, {10, 50}}},
		{"the longest message is cut", []Text{{long(500), long(300)}, {long(70), long(300)}, {long(20), ""}}, 300, [][2]int{{210, 0}, {70, 0}, {20, 0}}},
		{"two messages are cut", []Text{{long(500), ""}, {long(70), ""}, {long(400), ""}}, 301, [][2]int{{115, 0}, {70, 0}, {115, 0}}},
		{"all messages are cut", []Text{{long(500), ""}, {long(600), ""}}, 200, [][2]int{{100, 0}, {100, 0}}},
		{"just enough", []Text{{long(500), ""}, {long(600), ""}}, 2 * minMessage, [][2]int{{minMessage, 0}, {minMessage, 0}}},
		{"not enough", []Text{{long(500), ""}, {long(600), ""}}, 2*minMessage - 1, nil},
		{"less than nothing", []Text{{long(500), ""}}, -1, nil},
		{"short messages are not cut", []Text{{long(50), ""}, {long(60), ""}}, 100, nil},
		{"nothing to say", []Text{{}, {}}, 0, [][2]int{{0, 0}, {0, 0}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, fits := cutAll(tc.texts, tc.room)
			if fits != (tc.want != nil) {
				t.Fatalf("fits: %v", fits)
			}
			if !fits {
				return
			}
			if jsonSizes(got...) > tc.room {
				t.Errorf("%d bytes of %d", jsonSizes(got...), tc.room)
			}
			if d := cmp.Diff(tc.want, cutSizes(sizes(got), tc.want)); d != "" {
				t.Error(d)
			}
		})
	}
}

// cutSizes removes a difference of a few bytes from got, which halves and marks cause.
func cutSizes(got, want [][2]int) [][2]int {
	for i := range got {
		for j := range got[i] {
			if d := want[i][j] - got[i][j]; d >= 0 && d <= 3 { // the two line breaks of a mark have two bytes each as JSON
				got[i][j] = want[i][j]
			}
		}
	}
	return got
}
