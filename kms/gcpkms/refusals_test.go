package gcpkms_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// canary is in everything the server says, and must be in nothing that we say.
const canary = "canary-data-key-0123456789abcdef"

// Every status, on both operations: the class, one request each, and none of what
// the server said in the text.
func TestErrorTable(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(1))[0]
	for _, tc := range []struct {
		code         codes.Code
		message      string
		wrap, unwrap kms.Class
	}{
		{codes.Canceled, "", kms.Unavailable, kms.Unavailable},
		{codes.Unknown, "", kms.Unavailable, kms.Unavailable},
		{codes.InvalidArgument, "", kms.Internal, kms.Corrupt},
		{codes.InvalidArgument, "The checksum in field plaintext_crc32c did not match the data in field plaintext.", kms.Unavailable, kms.Unavailable},
		{codes.InvalidArgument, "The key has the purpose ASYMMETRIC_SIGN.", kms.Invalid, kms.Invalid},
		{codes.DeadlineExceeded, "", kms.Unavailable, kms.Unavailable},
		{codes.NotFound, "", kms.NotFound, kms.NotFound},
		{codes.AlreadyExists, "", kms.Internal, kms.Internal},
		{codes.PermissionDenied, "", kms.Denied, kms.Denied},
		{codes.ResourceExhausted, "", kms.Throttled, kms.Throttled},
		{codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 8)", kms.Internal, kms.Internal},
		{codes.FailedPrecondition, "", kms.Disabled, kms.Disabled},
		{codes.FailedPrecondition, "x is not enabled, current state is: DISABLED.", kms.Disabled, kms.Disabled},
		{codes.FailedPrecondition, "x is not enabled, current state is: DESTROY_SCHEDULED.", kms.Disabled, kms.Disabled},
		{codes.FailedPrecondition, "x is not enabled, current state is: DESTROYED.", kms.NotFound, kms.NotFound},
		{codes.FailedPrecondition, "x is not enabled, current state is: PENDING_GENERATION.", kms.Disabled, kms.Disabled},
		{codes.FailedPrecondition, "The key has the purpose ASYMMETRIC_SIGN.", kms.Invalid, kms.Invalid},
		{codes.Aborted, "", kms.Unavailable, kms.Unavailable},
		{codes.OutOfRange, "", kms.Internal, kms.Corrupt},
		{codes.Unimplemented, "", kms.Unavailable, kms.Unavailable},
		{codes.Internal, "", kms.Unavailable, kms.Unavailable},
		{codes.Unavailable, "", kms.Unavailable, kms.Unavailable},
		{codes.DataLoss, "", kms.Unavailable, kms.Unavailable},
		{codes.Unauthenticated, "", kms.Denied, kms.Denied},
		{codes.Unauthenticated, `transport: per-RPC creds failed due to error: auth: "invalid_grant"`, kms.Denied, kms.Denied},
		{codes.Unauthenticated, "transport: per-RPC creds failed due to error: dial tcp 192.0.2.1:443: i/o timeout", kms.Unavailable, kms.Unavailable},
		{codes.Code(42), "", kms.Internal, kms.Internal},
	} {
		t.Run(tc.code.String()+" "+tc.message, func(t *testing.T) {
			f := fails(tc.code)
			if tc.message != "" {
				f.Message = tc.message
			}
			s.Inject(f)
			defer s.ClearFaults()
			s.ResetCalls()
			_, err := key.Wrap(t.Context(), [][]byte{[]byte(canary)}, ec)
			wantError(t, err, "wrap", tc.wrap)
			wantNoCanary(t, err)
			if status.Code(err) != tc.code { // the cause is in the chain
				t.Errorf("status.Code = %v", status.Code(err))
			}
			err = unwrapError(t.Context(), t, key, wrapped)
			wantError(t, err, "unwrap", tc.unwrap)
			wantNoCanary(t, err)
			if e, d := s.Calls("Encrypt"), s.Calls("Decrypt"); e != 1 || d != 1 {
				t.Errorf("%d and %d requests: something retries", e, d)
			}
		})
	}
	mustUnwrap(t, key, mustWrap(t, key, [][]byte{[]byte(canary)}), [][]byte{[]byte(canary)})
}

func wantNoCanary(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %q %s", err, err, err, err)
	if h, ok := errors.AsType[*kms.Error](err); ok {
		text += h.Hint() + h.Detail
	}
	for _, s := range []string{canary[:16], hex.EncodeToString([]byte(canary[:16])), base64.StdEncoding.EncodeToString([]byte(canary[:15]))} {
		if strings.Contains(text, s) {
			t.Errorf("what the server said, or a data key, is in the error: %s", text)
		}
	}
}

// What the server and the way do to requests and answers, in both directions.
func TestHarm(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	dataKeys := newDataKeys(1)
	wrapped := mustWrap(t, key, dataKeys)
	for _, tc := range []struct {
		name         string
		harm         gcpserver.Harm
		wrap, unwrap kms.Class // Canceled: no failure that we could see
	}{
		{"request damaged", gcpserver.DamagedRequest, kms.Unavailable, kms.Unavailable},
		{"context damaged", gcpserver.DamagedRequestAAD, kms.Unavailable, kms.Unavailable},
		{"request checksums lost", gcpserver.LostRequestChecksums, kms.Unavailable, kms.Canceled},
		{"answer damaged", gcpserver.DamagedAnswer, kms.Unavailable, kms.Unavailable},
		{"answer checksum lost", gcpserver.LostAnswerChecksum, kms.Unavailable, kms.Unavailable},
		{"wrong key in the answer", gcpserver.WrongKeyName, kms.Internal, kms.Canceled},
		{"empty answer", gcpserver.EmptyAnswer, kms.Internal, kms.Corrupt},
		{"huge answer", gcpserver.HugeAnswer, kms.Internal, kms.Corrupt},
		{"truncated plaintext", gcpserver.TruncatedPlaintext, kms.Canceled, kms.Corrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.Inject(gcpserver.Fault{Harm: tc.harm})
			defer s.ClearFaults()
			_, err := key.Wrap(t.Context(), dataKeys, ec)
			if tc.wrap != kms.Canceled {
				wantError(t, err, "wrap", tc.wrap)
			} else if err != nil {
				t.Errorf("wrap: %v", err)
			}
			err = unwrapError(t.Context(), t, key, wrapped[0])
			if tc.unwrap != kms.Canceled {
				wantError(t, err, "unwrap", tc.unwrap)
			} else if err != nil {
				t.Errorf("unwrap: %v", err)
			}
		})
	}
	mustUnwrap(t, key, wrapped, dataKeys)
}

// An emulator without checksums is not taken for a damaged line alone.
func TestUnconfirmedChecksumsMayBeAnEmulators(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	for _, harm := range []gcpserver.Harm{gcpserver.LostRequestChecksums, gcpserver.LostAnswerChecksum} {
		s.Inject(gcpserver.Fault{Harm: harm})
		_, err := key.Wrap(t.Context(), newDataKeys(1), ec)
		var e *kms.Error
		if !errors.As(err, &e) || !strings.Contains(e.Detail, "this may be an emulator") || !strings.Contains(e.Hint(), "waxseal dev kms") {
			t.Errorf("%v", err)
		}
		s.ClearFaults()
	}
}

// One damaged answer in a batch is that item's alone.
func TestHarmToOneItem(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(50))
	s.Inject(gcpserver.Fault{Harm: gcpserver.DamagedAnswer, Times: 1})
	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for _, u := range got {
		if u.Err != nil {
			bad++
			wantError(t, u.Err, "unwrap", kms.Unavailable)
		}
	}
	if bad != 1 {
		t.Errorf("%d of 50 items failed, want 1", bad)
	}
}

func TestVersionStates(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	old := newDataKeys(1)
	wrappedOld := mustWrap(t, key, old)
	if _, err := s.Rotate(keyName); err != nil {
		t.Fatal(err)
	}
	current := newDataKeys(1)
	wrapped := mustWrap(t, key, current)
	if wrappedOld[0].Version != "1" || wrapped[0].Version != "2" {
		t.Fatalf("versions %q and %q", wrappedOld[0].Version, wrapped[0].Version)
	}
	for _, tc := range []struct {
		state kmspb.CryptoKeyVersion_CryptoKeyVersionState
		class kms.Class
	}{
		{kmspb.CryptoKeyVersion_DISABLED, kms.Disabled},
		{kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, kms.Disabled},
		{kmspb.CryptoKeyVersion_DESTROYED, kms.NotFound},
	} {
		if err := s.SetState(keyName, 1, tc.state); err != nil {
			t.Fatal(err)
		}
		// The old version alone is gone: the others of the batch open.
		got, err := key.Unwrap(t.Context(), []kms.Wrapped{wrappedOld[0], wrapped[0]}, ec)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, got[0].Err, "unwrap", tc.class)
		if got[1].Err != nil || string(got[1].DataKey) != string(current[0]) {
			t.Errorf("%v: the other version does not open: %v", tc.state, got[1].Err)
		}
	}
	if err := s.SetState(keyName, 2, kmspb.CryptoKeyVersion_DISABLED); err != nil {
		t.Fatal(err)
	}
	_, err := key.Wrap(t.Context(), current, ec)
	wantError(t, err, "wrap", kms.Disabled)
}

func TestThrottlingKeepsRetryInfo(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	s.Inject(gcpserver.Fault{Code: codes.ResourceExhausted, RetryAfter: 1500 * time.Millisecond})
	_, err := key.Wrap(t.Context(), newDataKeys(1), ec)
	wantError(t, err, "wrap", kms.Throttled)
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.RetryDelay.AsDuration() == 1500*time.Millisecond {
			return
		}
	}
	t.Error("the RetryInfo is not in the cause")
}

func TestStall(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(1))[0]
	s.Inject(gcpserver.Fault{Stall: true})
	call := map[string]func(context.Context) error{
		"wrap":   func(ctx context.Context) error { _, err := key.Wrap(ctx, newDataKeys(1), ec); return err },
		"unwrap": func(ctx context.Context) error { return unwrapError(ctx, t, key, wrapped) },
	}
	for op, do := range call {
		ctx, cancel := context.WithCancel(t.Context())
		stalled := make(chan error, 1)
		go func() { stalled <- do(ctx) }()
		for s.InFlight() == 0 {
			if len(stalled) > 0 {
				t.Fatalf("%s: %v", op, <-stalled)
			}
			runtime.Gosched()
		}
		cancel()
		err := <-stalled
		wantError(t, err, op, kms.Canceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is not context.Canceled", op, err)
		}
		for s.InFlight() > 0 { // the server notices in its own time
			runtime.Gosched()
		}

		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = do(ctx)
		cancel()
		wantError(t, err, op, kms.Canceled)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v is not context.DeadlineExceeded", op, err)
		}
	}

	// Our own timeout is not the caller's doing.
	impatient := newKey(t, s, func(c *gcpkms.Config) { c.Timeout = 50 * time.Millisecond })
	_, err := impatient.Wrap(t.Context(), newDataKeys(1), ec)
	wantError(t, err, "wrap", kms.Unavailable)
	wantError(t, unwrapError(t.Context(), t, impatient, wrapped), "unwrap", kms.Unavailable)
}

// A server that went away and came back is found again.
func TestOutage(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	dataKeys := newDataKeys(1)
	wrapped := mustWrap(t, key, dataKeys)
	addr := s.Addr()
	s.Close()
	_, err := key.Wrap(t.Context(), dataKeys, ec)
	wantError(t, err, "wrap", kms.Unavailable)
	wantError(t, unwrapError(t.Context(), t, key, wrapped[0]), "unwrap", kms.Unavailable)

	back, err := gcpserver.Start(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Close)
	if err := back.AddKey(keyName); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err = key.Wrap(t.Context(), dataKeys, ec); err == nil {
			return
		}
		wantError(t, err, "wrap", kms.Unavailable)
		if time.Now().After(deadline) {
			t.Fatal("still not reached 20 s after the server came back")
		}
	}
}

func TestDroppedConnection(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	s.Inject(gcpserver.Fault{Stall: true, Times: 1})
	done := make(chan error, 1)
	go func() {
		_, err := key.Wrap(t.Context(), newDataKeys(1), ec)
		done <- err
	}()
	for s.InFlight() == 0 && len(done) == 0 {
		runtime.Gosched()
	}
	s.DropConnections()
	wantError(t, <-done, "wrap", kms.Unavailable)
}
