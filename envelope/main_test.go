package envelope_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestMain(m *testing.M) {
	if runRole(memoryRoles) {
		return
	}
	goleak.VerifyTestMain(m)
}

// rig is a sealer and an opener over fake keys.
type rig struct {
	keys   []*kmstest.Fake
	opener *envelope.Opener
	sealer *envelope.Sealer
}

func keysOf(fakes []*kmstest.Fake) []kms.Key {
	out := make([]kms.Key, len(fakes))
	for i, f := range fakes {
		out[i] = f
	}
	return out
}

func newOpener(t testing.TB, change func(*envelope.OpenerConfig), fakes ...*kmstest.Fake) *envelope.Opener {
	t.Helper()
	cfg := envelope.OpenerConfig{Keys: envelope.StaticKeys(keysOf(fakes)...)}
	if change != nil {
		change(&cfg)
	}
	o, err := envelope.NewOpener(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func newSealer(t testing.TB, cfg envelope.SealerConfig, fakes ...*kmstest.Fake) *envelope.Sealer {
	t.Helper()
	cfg.Keys = keysOf(fakes)
	s, err := envelope.NewSealer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newRig seals and opens in one process, with the sealer's data keys cached.
func newRig(t testing.TB, cfg envelope.SealerConfig, names ...string) *rig {
	t.Helper()
	r := &rig{}
	for _, n := range names {
		r.keys = append(r.keys, kmstest.NewFake(n))
	}
	r.opener = newOpener(t, nil, r.keys...)
	cfg.Opener = r.opener
	r.sealer = newSealer(t, cfg, r.keys...)
	return r
}

var claims = envelope.Claims{Namespace: "payments"}

func mustSeal(t testing.TB, s *envelope.Sealer, c envelope.Claims, plaintexts ...string) []envelope.Sealed {
	t.Helper()
	in := make([][]byte, len(plaintexts))
	for i, p := range plaintexts {
		in[i] = []byte(p)
	}
	out, err := s.Seal(t.Context(), c, in...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func items(sealed ...envelope.Sealed) []envelope.Item {
	out := make([]envelope.Item, len(sealed))
	for i, s := range sealed {
		out[i] = envelope.Item{Envelope: s.Envelope}
	}
	return out
}

func openOne(t testing.TB, o *envelope.Opener, item envelope.Item) envelope.Opened {
	t.Helper()
	return o.Open(t.Context(), item)[0]
}

// pass lets d go by on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

func wantClass(t testing.TB, err error, want kms.Class) {
	t.Helper()
	if err == nil || kms.ClassOf(err) != want {
		t.Fatalf("error %v of class %v, want %v", err, kms.ClassOf(err), want)
	}
}
