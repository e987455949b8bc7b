package codec_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// ledger is a client.MetricsHandler that keeps all values that it receives.
type ledger struct {
	tags map[string]string
	all  *seen
}

func (l ledger) WithTags(tags map[string]string) client.MetricsHandler {
	all := maps.Clone(l.tags)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, tags)
	return ledger{all, l.all}
}

func (l ledger) name(metric string) string {
	words := []string{metric}
	for _, tag := range slices.Sorted(maps.Keys(l.tags)) {
		words = append(words, tag+"="+l.tags[tag])
	}
	return strings.Join(words, " ")
}

type counter func(int64)

func (c counter) Inc(n int64) { c(n) }

type timer func(time.Duration)

func (t timer) Record(d time.Duration) { t(d) }

func (l ledger) Counter(name string) client.MetricsCounter {
	return counter(func(n int64) { l.all.add(int(n), l.name(name)) })
}

func (l ledger) Timer(name string) client.MetricsTimer {
	return timer(func(time.Duration) { l.all.add(1, l.name(name)) })
}

func (ledger) Gauge(string) client.MetricsGauge { panic("no gauge is reported") }

// ours returns the values of our metrics that a handler received.
func (s *seen) ours() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int)
	for name, n := range s.n {
		if strings.HasPrefix(name, "waxseal_") {
			out[name] = n
		}
	}
	return out
}

func dialTo(t *testing.T, c *codec.Codec, handler client.MetricsHandler) {
	t.Helper()
	cl, err := client.NewLazyClient(client.Options{Plugins: []client.Plugin{codec.NewPlugin(c)}, MetricsHandler: handler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
}

func TestPluginReportsMetrics(t *testing.T) {
	backend := kmstest.NewBackend()
	c, hooks := newWatchedCodec(t, twoKeys+"resilience: {attempts: 2, breaker: {failures: 2, openFor: 1m}}\n", backend)
	first, second := &seen{}, &seen{}
	dialTo(t, c, nil)
	dialTo(t, c, client.MetricsNopHandler)
	dialTo(t, c, ledger{all: first})
	dialTo(t, c, ledger{all: second})
	backend.Fake("far").Always(kmstest.Fail(kms.Unavailable))
	sealed := encode(t, c, "primary", payload(t, "x"), payload(t, "y"))
	c.Decode(t.Context(), codec.DecodeOptions{Namespace: "primary"}, sealed)
	maker := newCodecOn(t, twoKeys, kmstest.NewBackend(backend.Fake("near"), kmstest.NewFake("far")))
	c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, encode(t, maker, "n", payload(t, "x")))
	if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, "x")}); err == nil {
		t.Error("sealed without the unavailable key")
	}
	want := map[string]int{
		"waxseal_missing_recipients class=unavailable key=far":     2,
		"waxseal_kms_calls class=ok key=near op=wrap":              2,
		"waxseal_kms_calls class=ok key=near op=unwrap":            1,
		"waxseal_kms_calls class=unavailable key=far op=wrap":      2,
		"waxseal_kms_latency key=near op=wrap":                     2,
		"waxseal_kms_latency key=near op=unwrap":                   1,
		"waxseal_kms_latency key=far op=wrap":                      2,
		"waxseal_kms_retries key=far op=wrap":                      1,
		"waxseal_kms_rejected key=far op=wrap reason=breaker open": 1,
		"waxseal_kms_breaker_opened key=far":                       1,
		"waxseal_cache_lookups outcome=hit":                        2,
		"waxseal_cache_lookups outcome=miss":                       1,
	}
	if diff := cmp.Diff(want, first.ours()); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	c.Close()
	if n := first.ours()["waxseal_cache_evictions reason=closed"]; n != 3 {
		t.Errorf("%d data keys evicted when closing: %v", n, first.ours())
	}
	if n := len(second.ours()); n != 0 {
		t.Errorf("the second client's handler received metrics too: %v", second.ours())
	}
	if hooks.count("missing far unavailable") != 2 {
		t.Error("the hooks of the configuration were not called")
	}
	for name := range first.ours() {
		if strings.Contains(name, "fake://") {
			t.Errorf("%s holds more than the key's name", name)
		}
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	all := &seen{}
	dialTo(t, c, ledger{all: all})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, encode(t, c, "n", payload(t, i)))
			}
		})
	}
	wg.Wait()
	if n := all.ours()["waxseal_cache_lookups outcome=hit"]; n != 400 {
		t.Errorf("%d hits", n)
	}
}

// docs/worker.md lists the metrics that the plugin reports, and their tags.
func TestDocsListMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/worker.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(waxseal_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		var tags []string
		for _, tag := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1) {
			tags = append(tags, tag[1])
		}
		slices.Sort(tags)
		got[m[1]] = fmt.Sprint(m[2], tags)
	}
	want := map[string]string{
		"waxseal_missing_recipients": "counter[class key]",
		"waxseal_sealed_in_grace":    "counter[class key]",
		"waxseal_refused":            "counter[class held]",
		"waxseal_kms_calls":          "counter[class key op]",
		"waxseal_kms_latency":        "timer[key op]",
		"waxseal_kms_retries":        "counter[key op]",
		"waxseal_kms_rejected":       "counter[key op reason]",
		"waxseal_kms_breaker_opened": "counter[key]",
		"waxseal_cache_lookups":      "counter[outcome]",
		"waxseal_cache_evictions":    "counter[reason]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-code +docs):\n%s", diff)
	}
}
