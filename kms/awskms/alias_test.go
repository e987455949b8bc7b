package awskms_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/envelope"
	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// After an alias moved to another key: an error that names the old key by its ARN and says
// to configure it, and then what was sealed.
func TestEnvelopesOfAMovedAlias(t *testing.T) {
	s := startServer(t)
	first, second := createKey(t, s, awsserver.KeySpec{}), createKey(t, s, awsserver.KeySpec{})
	alias := awskms.Config{Key: "alias/payments", Region: region}
	openerOf := func(keys ...kms.Key) *envelope.Opener {
		t.Helper()
		o, err := envelope.NewOpener(envelope.OpenerConfig{Keys: envelope.StaticKeys(keys...)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Close() })
		return o
	}
	s.SetAlias("alias/payments", first)
	before := open(t, s, alias)
	sealer, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{before}, Opener: openerOf(before)})
	if err != nil {
		t.Fatal(err)
	}
	defer sealer.Close()
	sealed, err := sealer.Seal(t.Context(), envelope.Claims{Namespace: "payments"}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}

	s.SetAlias("alias/payments", second)
	after := open(t, s, alias)
	s.ResetRequests()
	got := openerOf(after).Open(t.Context(), envelope.Item{Envelope: sealed[0].Envelope})[0]
	wantError(t, got.Err, kms.Denied, "add it to keys in the configuration")
	if !errors.Is(got.Err, envelope.ErrNotConfigured) || !strings.Contains(got.Err.Error(), "awskms:///"+first.ARN()) {
		t.Errorf("the error does not name the old key: %v", got.Err)
	}
	wantRequests(t, s, map[string]int{}) // a key that is not configured gets no request

	old := open(t, s, awskms.Config{Key: first.ARN()})
	got = openerOf(after, old).Open(t.Context(), envelope.Item{Envelope: sealed[0].Envelope})[0]
	if got.Err != nil || string(got.Plaintext) != "secret" {
		t.Errorf("with the old key by its ARN: %q, %v", got.Plaintext, got.Err)
	}
}
