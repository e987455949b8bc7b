package gcpkms_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// One request for each data key, so many at a time and no more, and no others.
func TestRequestCounts(t *testing.T) {
	for _, n := range []int{0, 1, 250, 1000} {
		s := startServer(t)
		key := newKey(t, s)
		if s.Calls("") != 0 {
			t.Error("opening a key asks the server")
		}
		s.Inject(gcpserver.Fault{Latency: time.Millisecond})
		dataKeys := newDataKeys(n)
		wrapped := mustWrap(t, key, dataKeys)
		mustUnwrap(t, key, wrapped, dataKeys)
		if s.Calls("Encrypt") != n || s.Calls("Decrypt") != n || s.Calls("") != 2*n {
			t.Errorf("%d data keys: %d Encrypt, %d Decrypt, %d calls", n, s.Calls("Encrypt"), s.Calls("Decrypt"), s.Calls(""))
		}
		if got := s.MostInFlight(); got > 100 {
			t.Errorf("%d data keys: %d requests at a time", n, got)
		}
	}
}

// Items of one call wait for each other only 100 at a time: 200 take two rounds.
func TestParallel(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(200))
	s.Inject(gcpserver.Fault{Stall: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := key.Unwrap(ctx, wrapped, ec)
		done <- err
	}()
	for s.InFlight() < 100 && len(done) == 0 {
		runtime.Gosched()
	}
	cancel()
	wantError(t, <-done, "unwrap", kms.Canceled)
	if most := s.MostInFlight(); most != 100 {
		t.Errorf("%d requests at a time", most)
	}
}

// A failure of all items is not repeated for each of them.
func TestFailureEndsBatch(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.PermissionDenied, codes.ResourceExhausted, codes.NotFound} {
		t.Run(code.String(), func(t *testing.T) {
			s := startServer(t)
			key := newKey(t, s)
			dataKeys := newDataKeys(1000)
			wrapped := mustWrap(t, key, dataKeys)
			s.ResetCalls()
			s.Inject(fails(code))
			if got, err := key.Wrap(t.Context(), dataKeys, ec); err == nil || got != nil {
				t.Errorf("wrap: %d answers, error %v", len(got), err)
			}
			if got, err := key.Unwrap(t.Context(), wrapped, ec); err == nil || got != nil {
				t.Errorf("unwrap: %d answers, error %v", len(got), err)
			}
			if n := s.Calls(""); n > 2*100*3 {
				t.Errorf("%d requests for two batches that fail at once", n)
			}
		})
	}
}

// A failure in the middle of a batch leaves what was opened before.
func TestFailureInMiddle(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	dataKeys := newDataKeys(400)
	wrapped := mustWrap(t, key, dataKeys)
	wrapped[0].Blob = nil // Corrupt without a request
	s.Inject(gcpserver.Fault{Method: "Decrypt", Times: 100, Latency: time.Millisecond})
	s.Inject(fails(codes.ResourceExhausted))
	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, got[0].Err, "unwrap", kms.Corrupt)
	opened, throttled := 0, 0
	for i, u := range got[1:] {
		switch {
		case u.Err == nil && string(u.DataKey) == string(dataKeys[i+1]):
			opened++
		case kms.ClassOf(u.Err) == kms.Throttled && u.DataKey == nil:
			throttled++
		default:
			t.Errorf("item %d: %v", i+1, u.Err)
		}
	}
	if opened == 0 || throttled == 0 || opened+throttled != 399 {
		t.Errorf("%d opened, %d throttled", opened, throttled)
	}
}

// The project's number and its ID name the same key.
func TestProjectNumber(t *testing.T) {
	s := startServer(t)
	numbered := strings.Replace(keyName, "acme-prod", "123456789", 1)
	if err := s.AddKey(numbered); err != nil {
		t.Fatal(err)
	}
	key := newKey(t, s, func(c *gcpkms.Config) { c.Name = numbered })
	dataKeys := newDataKeys(1)
	mustUnwrap(t, key, mustWrap(t, key, dataKeys), dataKeys)
}
