package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// keepingKEK holds on to the memory in which data keys are passed to it and from it.
type keepingKEK struct {
	*kmstest.Fake
	after func() // what it does when it has its answer

	mu   sync.Mutex
	kept [][]byte
}

func (k *keepingKEK) keep(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, b)
}

func (k *keepingKEK) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	wrapped, err := k.Fake.Wrap(ctx, dataKeys, ec)
	for _, d := range dataKeys {
		k.keep(d)
	}
	k.after()
	return wrapped, err
}

func (k *keepingKEK) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	out, err := k.Fake.Unwrap(ctx, wrapped, ec)
	for _, u := range out {
		k.keep(u.DataKey)
	}
	k.after()
	return out, err
}

// wantCleared checks that k was passed data keys, and that they are zero now.
func (k *keepingKEK) wantCleared(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == 0 {
		t.Error("no data key was passed")
	}
	for i, b := range k.kept {
		if len(b) > 0 && len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("data key %d of %d is still where it was passed", i+1, len(k.kept))
		}
	}
}

// TestBuffersOfWrap and TestBuffersOfUnwrap see what becomes of the buffers that we
// share with a backend, when all goes well and when not.
func TestBuffersOfWrap(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault kmstest.Fault
		after func()
		fails bool
	}{
		{name: "goes well"},
		{name: "error", fault: kmstest.Fault{Err: &kms.Error{Class: kms.Denied}}, fails: true},
		{name: "too few", fault: kmstest.Fault{Drop: true}, fails: true},
		{name: "panic", after: func() { panic("on purpose") }, fails: true},
		{name: "goroutine ends", after: runtime.Goexit, fails: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kek := &keepingKEK{Fake: kmstest.NewFake("a"), after: func() {}}
			if tc.after != nil {
				kek.after = tc.after
			}
			kek.Always(tc.fault)
			s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{kek}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Seal(t.Context(), claims, []byte("x"))
			if (err != nil) != tc.fails {
				t.Errorf("Seal: %v", err)
			}
			s.Close()
			kek.wantCleared(t)
		})
	}
}

func TestBuffersOfUnwrap(t *testing.T) {
	fake := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, fake), claims, "x", "y", "z")
	for _, tc := range []struct {
		name  string
		fault kmstest.Fault
		fails int
	}{
		{name: "goes well"},
		{name: "error of one", fault: kmstest.Fault{ItemErrs: map[int]error{1: errors.New("on purpose")}}, fails: 1},
		{name: "too few", fault: kmstest.Fault{Drop: true}, fails: 3},
		{name: "wrong data key", fault: kmstest.Fault{WrongDataKey: true}, fails: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kek := &keepingKEK{Fake: fake.Reopen(), after: func() {}}
			kek.Always(tc.fault)
			o, err := envelope.NewOpener(envelope.OpenerConfig{Keys: envelope.StaticKeys(kek)})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			failed := slices.DeleteFunc(o.Open(t.Context(), items(sealed...)...), func(got envelope.Opened) bool { return got.Err == nil })
			if len(failed) != tc.fails {
				t.Errorf("%d failed, want %d: %v", len(failed), tc.fails, failed)
			}
			kek.wantCleared(t)
		})
	}
}

// TestUnwrapWhoseGoroutineEnds: a backend that ends the goroutine it is called in
// gave no data key, and that is an error like others.
func TestUnwrapWhoseGoroutineEnds(t *testing.T) {
	fake := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, fake), claims, "x", "y")
	kek := &keepingKEK{Fake: fake.Reopen(), after: runtime.Goexit}
	o, err := envelope.NewOpener(envelope.OpenerConfig{Keys: envelope.StaticKeys(kek)})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, got := range o.Open(t.Context(), items(sealed...)...) {
		wantClass(t, got.Err, kms.Internal)
	}
}
