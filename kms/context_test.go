package kms_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"pgregory.net/rapid"
)

// TestAssociatedDataBytes fixes the encoding: wrapped data keys in storage depend on it.
func TestAssociatedDataBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		ec   kms.Context
		want string
	}{
		{"nil", nil, ""},
		{"empty", kms.Context{}, ""},
		{"empty pair", kms.Context{"": ""}, "0000000000000000"},
		{"one pair", kms.Context{"ns": "a"}, "000000026e730000000161"},
		{"sorted by name", kms.Context{"b": "1", "a": "2", "B": ""}, "000000014200000000" + "00000001610000000132" + "00000001620000000131"},
		{"UTF-8", kms.Context{"é": "ü"}, "00000002c3a900000002c3bc"},
	} {
		if got := hex.EncodeToString(tt.ec.AssociatedData()); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if (kms.Context{}).AssociatedData() != nil {
		t.Error("an empty context gives bytes")
	}
}

// decode is the inverse of AssociatedData; that there is one makes it injective.
func decode(t *rapid.T, b []byte) kms.Context {
	next := func() string {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			t.Fatalf("cut short at the last %d bytes", len(b))
		}
		n := binary.BigEndian.Uint32(b)
		s := string(b[4 : 4+n])
		b = b[4+n:]
		return s
	}
	ec := kms.Context{}
	last, first := "", true
	for len(b) > 0 {
		name := next()
		if !first && name <= last {
			t.Fatalf("name %q after %q", name, last)
		}
		ec[name], last, first = next(), name, false
	}
	return ec
}

func drawContext(t *rapid.T, label string) kms.Context {
	// Few letters, NUL among them, so that names and values run into each other.
	text := rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 'b', 'é'}), 0, 5, -1)
	return rapid.MapOfN(text, text, 0, 4).Draw(t, label)
}

func TestAssociatedDataIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawContext(t, "a"), drawContext(t, "b")
		if got := decode(t, a.AssociatedData()); !maps.Equal(got, a) {
			t.Fatalf("%q decodes to %q", a, got)
		}
		if bytes.Equal(a.AssociatedData(), b.AssociatedData()) != maps.Equal(a, b) {
			t.Fatalf("%q and %q: equal bytes %v", a, b, bytes.Equal(a.AssociatedData(), b.AssociatedData()))
		}
		if !bytes.Equal(a.AssociatedData(), maps.Clone(a).AssociatedData()) {
			t.Fatalf("%q is not always the same", a)
		}
	})
}

func TestContextCheck(t *testing.T) {
	for _, ec := range []kms.Context{nil, {}, {"namespace": "n"}, {"namespace": "n", "workflowId": " "}} {
		if err := ec.Check("wrap", "fake://a"); err != nil {
			t.Errorf("%q: %v", ec, err)
		}
	}
	for _, ec := range []kms.Context{{"": ""}, {"": "CANARY"}, {"CANARY": ""}, {"namespace": "CANARY", "workflowId": ""}} {
		err := ec.Check("wrap", "fake://a")
		e, ok := errors.AsType[*kms.Error](err)
		if !ok || e.Class != kms.Internal || e.Op != "wrap" || e.KeyID != "fake://a" || e.Hint() == "" {
			t.Errorf("%q: %#v", ec, err)
			continue
		}
		if strings.Contains(e.Error()+e.Hint(), "CANARY") {
			t.Errorf("%q: %v quotes it", ec, err)
		}
	}
}
