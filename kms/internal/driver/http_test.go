package driver

import (
	"testing"
	"time"
)

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name, value, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "7", "", 7 * time.Second},
		{"zero", "0", "", 0},
		{"negative", "-1", "", 0},
		{"far too long", "2000000000", "", maxRetryAfter},
		{"beyond all numbers", "99999999999999999999", "", 0},
		{"nonsense", "soon", "", 0},
		{"date", "Fri, 02 Jan 2026 03:04:12 GMT", "", 7 * time.Second},
		{"date by the server's clock", "Fri, 02 Jan 2026 05:04:12 GMT", "Fri, 02 Jan 2026 05:04:05 GMT", 7 * time.Second},
		{"date that is past", "Fri, 02 Jan 2026 03:04:00 GMT", "", 0},
		{"date and a broken clock", "Fri, 02 Jan 2026 03:04:12 GMT", "now", 7 * time.Second},
	} {
		if got := RetryAfter(tc.value, tc.date, now); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"7.5":                           0,
		"soon":                          0,
		"99999999999":                   0,
		"86400":                         maxRetryAfter,
		"Sun, 22 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Sun, 22 Nov 2026 11:00:00 GMT": 0,
		"Sun, 22 Nov 2037 11:00:00 GMT": maxRetryAfter,
	} {
		if got := RetryAfter(value, "", now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for _, tc := range []struct {
		address, want string
		unix, exposed bool
	}{
		{"https://kms.example.com", "", false, false},
		{"http://127.0.0.1:8200", "", false, false},
		{"http://localhost:8200", "", false, false},
		{"http://[::1]:8200", "", false, false},
		{"http://10.0.0.1", "", false, true},
		{"unix:///run/vault.sock", "", true, false},
		{"unix:///run/vault.sock", "the endpoint does not start with https:// or http://", false, false},
		{"http://me:s3cret@h", "the endpoint holds a user name or password", false, false},
		{"https://h/?token=s3cret", "the endpoint holds a query or a fragment", false, false},
		{"https://h/#s3cret", "the endpoint holds a query or a fragment", false, false},
		{"https:///s3cret", "the endpoint names no host", false, false},
		{"http://[s3cret", "the endpoint is not a URL", false, false},
	} {
		u, err := ParseAddress("endpoint", tc.address, tc.unix)
		switch {
		case tc.want == "" && (err != nil || Exposed(u) != tc.exposed):
			t.Errorf("%s: %v, %v", tc.address, u, err)
		case tc.want != "" && (err == nil || err.Error() != tc.want):
			t.Errorf("%s: %v, want %s", tc.address, err, tc.want)
		}
	}
}
