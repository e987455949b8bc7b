package envelope_test

import (
	"errors"
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestRoom(t *testing.T) {
	key := kmstest.NewFake("a")
	large := string(make([]byte, 1<<20))
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{Compress: true}, key), claims, "x", large, large, large, "y")
	o := newOpener(t, nil, key)
	var asked []int
	left := 1<<20 + 1
	bounded := items(sealed...)
	for i := range bounded {
		bounded[i].Room = func(size int) bool {
			asked = append(asked, size)
			left -= size
			return left >= 0
		}
	}
	for i, got := range o.Open(t.Context(), bounded...) {
		if i < 2 {
			if got.Err != nil {
				t.Errorf("item %d: %v", i, got.Err)
			}
			continue
		}
		wantClass(t, got.Err, kms.Internal)
		if !errors.Is(got.Err, envelope.ErrNoRoom) || got.Plaintext != nil {
			t.Errorf("item %d: %d bytes, %v", i, len(got.Plaintext), got.Err)
		}
	}
	if len(asked) != 3 {
		t.Errorf("asked for %v: more was decompressed after the first refusal", asked)
	}
	for i, got := range o.Open(t.Context(), items(sealed...)...) {
		if got.Err != nil {
			t.Errorf("item %d without a Room: %v", i, got.Err)
		}
	}
}
