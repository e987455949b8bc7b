package format_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/waxseal/waxseal/envelope/format"
)

// FuzzParse: no input makes Parse panic or allocate much more than its size;
// what it refuses has a complete error; what it accepts has one encoding, passes
// the validators that Seal uses, and is rewrapped to itself.
func FuzzParse(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add(v.envelope)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e, err := format.Parse(b)
		runtime.ReadMemStats(&after)
		// The fuzzing engine allocates beside us, so this only catches a length
		// that is believed before it is checked.
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(len(b))+1<<20 {
			t.Errorf("%d bytes allocated for %d", got, len(b))
		}
		if err != nil {
			var bad *format.Error
			if !errors.As(err, &bad) || bad.Kind == nil || bad.Field == "" || bad.Reason == "" || bad.Offset < 0 || bad.Offset > len(b) || bad.Hint() == "" {
				t.Errorf("incomplete error %#v", err)
			}
			if e != nil {
				t.Error("an envelope and an error")
			}
			return
		}
		if got := format.Reencode(e); !bytes.Equal(got, b) {
			t.Errorf("encoded again as %x", got)
		}
		if err := e.Header.Validate(); err != nil {
			t.Errorf("read what may not be written: %v", err)
		}
		if err := format.ValidateRecipients(e.Recipients); err != nil {
			t.Errorf("read what may not be written: %v", err)
		}
		if got, err := format.Rewrap(b, e.Recipients); err != nil || !bytes.Equal(got, b) {
			t.Errorf("rewrapped to itself: %x, error %v", got, err)
		}
	})
}

// FuzzOpen: the package and the decoder written from the specification agree on
// every envelope and data key, about the kind of failure too.
func FuzzOpen(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add(v.envelope, v.dataKey)
	}
	f.Fuzz(func(t *testing.T, b, dataKey []byte) {
		if len(b) > 1<<16 {
			return // the other decoder multiplies bit by bit
		}
		want, wantErr := specOpen(b, dataKey)
		e, err := format.Parse(b)
		if (err != nil) != errors.Is(wantErr, errSpecParse) {
			t.Fatalf("Parse: %v; the other decoder: %v", err, wantErr)
		}
		if err != nil {
			return
		}
		got, err := e.Open(dataKey)
		switch {
		case errors.Is(err, format.ErrDataKey):
			if !errors.Is(wantErr, errSpecKey) || e.CommitsTo(dataKey) {
				t.Fatalf("Open: %v; the other decoder: %v", err, wantErr)
			}
		case errors.Is(err, format.ErrCommitment):
			if !errors.Is(wantErr, errSpecCommit) || e.CommitsTo(dataKey) {
				t.Fatalf("Open: %v; the other decoder: %v", err, wantErr)
			}
		case errors.Is(err, format.ErrCiphertext):
			if !errors.Is(wantErr, errSpecAuth) || !e.CommitsTo(dataKey) {
				t.Fatalf("Open: %v; the other decoder: %v", err, wantErr)
			}
		case err != nil || wantErr != nil || !bytes.Equal(got, want):
			t.Fatalf("Open: %x, error %v; the other decoder: %x, error %v", got, err, want, wantErr)
		}
	})
}

// FuzzContainer: the package and the specification agree on every list of key IDs
// beside every envelope, and what is refused has a complete error.
func FuzzContainer(f *testing.F) {
	for _, v := range loadVectors(f) {
		if v.container != nil {
			f.Add(v.envelope, *v.container)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, list string) {
		e, err := format.Parse(b)
		if err != nil {
			return
		}
		ids, err := format.SplitKeyIDs(list)
		if err == nil {
			ids, err = e.KeyIDs(ids)
		}
		if want := specContainer(b, []byte(list)); want != (err == nil) {
			t.Fatalf("key IDs %q: error %v; the specification: %v", list, err, want)
		}
		var bad *format.Error
		if err != nil && (!errors.As(err, &bad) || ids != nil || bad.Reason == "" || bad.Hint() == "") {
			t.Fatalf("key IDs %q, incomplete error %#v", ids, err)
		}
	})
}
