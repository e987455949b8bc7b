package envelope_test

import (
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestWarm(t *testing.T) {
	key := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "one", "two", "three")
	opener := newOpener(t, nil, key)
	for i, err := range opener.Warm(t.Context(), items(sealed...)...) {
		if err != nil {
			t.Errorf("item %d: %v", i, err)
		}
	}
	asked := key.Counts().Unwraps
	if asked == 0 {
		t.Fatal("no KMS was asked")
	}
	key.Always(kmstest.Fail(kms.Unavailable))
	for i, err := range opener.Warm(t.Context(), items(sealed...)...) {
		if err != nil {
			t.Errorf("item %d again: %v", i, err)
		}
	}
	for i, opened := range opener.Open(t.Context(), items(sealed...)...) {
		if opened.Err != nil || len(opened.Plaintext) == 0 {
			t.Errorf("item %d does not open: %v", i, opened.Err)
		}
	}
	if got := key.Counts().Unwraps; got != asked {
		t.Errorf("%d unwraps, and %d once all were warm", asked, got)
	}
}

func TestWarmFailsAsOpenDoes(t *testing.T) {
	key, stranger := kmstest.NewFake("a"), kmstest.NewFake("b")
	mine := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "one", "two")...)
	foreign := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, stranger), claims, "three")...)
	cut := mine[1]
	cut.Envelope = cut.Envelope[:len(cut.Envelope)/2]
	opener := newOpener(t, nil, key)
	got := opener.Warm(t.Context(), cut, foreign[0], mine[0])
	wantClass(t, got[0], kms.Corrupt)
	wantClass(t, got[1], kms.Denied)
	if got[2] != nil {
		t.Error(got[2])
	}
	key.Always(kmstest.Fail(kms.Throttled))
	wantClass(t, opener.Warm(t.Context(), mine[1])[0], kms.Throttled)
}

// TestWarmTellsAWrongDataKey: the commitment is checked without the plaintext.
func TestWarmTellsAWrongDataKey(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "one")...)[0]
	key.ScriptUnwrap(kmstest.WrongDataKey())
	opener := newOpener(t, nil, key)
	wantClass(t, opener.Warm(t.Context(), item)[0], kms.Corrupt)
	if err := opener.Warm(t.Context(), item)[0]; err != nil {
		t.Errorf("the wrong data key stayed in the cache: %v", err)
	}
}
