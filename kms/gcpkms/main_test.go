package gcpkms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const keyName = "projects/acme-prod/locations/europe-west3/keyRings/waxseal/cryptoKeys/payments"

func startServer(t *testing.T) *gcpserver.Server {
	t.Helper()
	s, err := gcpserver.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.AddKey(keyName); err != nil {
		t.Fatal(err)
	}
	return s
}

// newKey opens the key of keyName, or the one that edit makes of the Config.
func newKey(t testing.TB, s *gcpserver.Server, edit ...func(*gcpkms.Config)) *gcpkms.Key {
	t.Helper()
	cfg := gcpkms.Config{Name: keyName, Endpoint: s.Addr(), InsecurePlaintext: true}
	for _, e := range edit {
		e(&cfg)
	}
	key, err := gcpkms.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

func newDataKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = make([]byte, kms.DataKeySize)
		rand.Read(keys[i])
	}
	return keys
}

var ec = kms.Context{"namespace": "payments-prod"}

func mustWrap(t *testing.T, key kms.Key, dataKeys [][]byte) []kms.Wrapped {
	t.Helper()
	wrapped, err := key.Wrap(t.Context(), dataKeys, ec)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// unwrapError unwraps w and returns the error, be it the call's or the item's.
func unwrapError(ctx context.Context, t *testing.T, key kms.Key, w kms.Wrapped) error {
	t.Helper()
	got, err := key.Unwrap(ctx, []kms.Wrapped{w}, ec)
	if err != nil {
		return err
	}
	if len(got) != 1 {
		t.Fatalf("%d answers for one item", len(got))
	}
	if got[0].Err != nil && got[0].DataKey != nil {
		t.Error("a data key came with an error")
	}
	return got[0].Err
}

// wantError checks the class of err and that it names the key and says what to do.
func wantError(t *testing.T, err error, op string, class kms.Class) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		t.Errorf("%s: error is %T (%v), want a *kms.Error of class %v", op, err, err, class)
		return
	}
	if e.Class != class || e.Op != op || e.KeyID != "gcpkms://"+keyName {
		t.Errorf("%s: %v (key %s, op %s), want class %v", op, err, e.KeyID, e.Op, class)
	}
	if class != kms.Canceled && e.Hint() == "" {
		t.Errorf("%s: no hint with %v", op, err)
	}
}

func mustUnwrap(t *testing.T, key kms.Key, wrapped []kms.Wrapped, want [][]byte) {
	t.Helper()
	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range got {
		if u.Err != nil || !bytes.Equal(u.DataKey, want[i]) {
			t.Fatalf("item %d: not the data key that was wrapped (error %v)", i, u.Err)
		}
	}
}

func fails(code codes.Code) gcpserver.Fault {
	return gcpserver.Fault{Code: code, Message: fmt.Sprintf("%s %x", canary, canary)}
}
