package cache_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/cache"
)

func valid() cache.Config[int] {
	return cache.Config[int]{
		MaxEntries: 1, Fresh: 1, LoadTimeout: 1,
		Classify: func(error) cache.Verdict { return cache.Fail },
		Wipe:     func(int) {},
	}
}

func TestNewRefusesAndListsEveryProblem(t *testing.T) {
	const tooLong = cache.MaxLifetime + 1
	tests := []struct {
		name   string
		change func(*cache.Config[int])
		want   []string // the fields named, in order
	}{
		{
			"zero value", func(c *cache.Config[int]) { *c = cache.Config[int]{} },
			[]string{"MaxEntries", "Fresh", "LoadTimeout", "Classify", "Wipe"},
		},
		{"all too large", func(c *cache.Config[int]) {
			c.MaxEntries, c.Jitter = cache.MaxEntriesLimit+1, 1
			c.Fresh, c.Stale, c.NegativeFor, c.LoadTimeout = tooLong, tooLong, tooLong, tooLong
		}, []string{"MaxEntries", "Fresh", "Stale", "NegativeFor", "LoadTimeout", "Jitter"}},
		{"all negative", func(c *cache.Config[int]) {
			c.MaxEntries, c.Jitter = -1, -0.1
			c.Fresh, c.Stale, c.NegativeFor, c.LoadTimeout = -1, -1, -1, -1
		}, []string{"MaxEntries", "Fresh", "Stale", "NegativeFor", "LoadTimeout", "Jitter"}},
		{"jitter not a number", func(c *cache.Config[int]) { c.Jitter = math.NaN() }, []string{"Jitter"}},
		{"no Wipe", func(c *cache.Config[int]) { c.Wipe = nil }, []string{"Wipe"}},
		{"no Classify", func(c *cache.Config[int]) { c.Classify = nil }, []string{"Classify"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := valid()
			tt.change(&config)
			c, err := cache.New[string](config)
			if c != nil || err == nil {
				t.Fatalf("New = %v, %v; want an error", c, err)
			}
			var fields []string
			for p := range strings.SplitSeq(strings.TrimPrefix(err.Error(), "cache: check config: "), "; ") {
				field, _, _ := strings.Cut(p, " ")
				fields = append(fields, field)
			}
			if diff := cmp.Diff(tt.want, fields); diff != "" {
				t.Errorf("fields refused (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorReadsAsOneLine(t *testing.T) {
	config := valid()
	config.MaxEntries, config.Fresh, config.Stale = 0, 0, -time.Second
	_, err := cache.New[string](config)
	const want = "cache: check config: MaxEntries is 0, must be 1 to 4194304; Fresh is 0s, must be more than 0; Stale is -1s, must not be negative"
	if err == nil || err.Error() != want {
		t.Errorf("New: %v\nwant: %s", err, want)
	}
}

func TestNewAcceptsTheLimits(t *testing.T) {
	for name, change := range map[string]func(*cache.Config[int]){
		"least": func(*cache.Config[int]) {},
		"most": func(c *cache.Config[int]) {
			c.MaxEntries, c.Jitter = cache.MaxEntriesLimit, math.Nextafter(1, 0)
			c.Fresh, c.Stale, c.NegativeFor, c.LoadTimeout = cache.MaxLifetime, cache.MaxLifetime, cache.MaxLifetime, cache.MaxLifetime
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := valid()
			change(&config)
			c, err := cache.New[string](config)
			if err != nil {
				t.Fatal(err)
			}
			c.Put("k", 1).Release()
			c.Close()
		})
	}
}

func TestNames(t *testing.T) {
	var got []string
	for l := cache.Hit; l <= cache.Negative+1; l++ {
		got = append(got, l.String())
	}
	for r := cache.Reason(0); r <= cache.Closed+1; r++ {
		got = append(got, r.String())
	}
	want := []string{
		"hit", "stale", "miss", "negative", "unknown",
		"unknown", "capacity", "expired", "refused", "removed", "replaced", "closed", "unknown",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
