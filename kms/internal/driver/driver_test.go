package driver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/kms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "fake://k"

func refused(class kms.Class) *kms.Error { return Refusal{Class: class}.Error("unwrap", id, nil) }

func TestRefusal(t *testing.T) {
	cause := errors.New("s3cret")
	for _, c := range []error{nil, cause} {
		err := Refusal{Class: kms.Invalid, Detail: "d", Advice: "a", Unsupported: true}.Error("rotate", id, c)
		if !errors.Is(err, errors.ErrUnsupported) || c != nil && !errors.Is(err, c) || err.Error() != "kms: rotate with fake://k: invalid: d" || err.Hint() != "a" {
			t.Errorf("%v", err)
		}
	}
}

func TestProblems(t *testing.T) {
	var p Problems
	if p.Err("open", id) != nil {
		t.Error("an error about nothing")
	}
	p.Bad("x", "do")
	if !p.Only("x") || p.Only("y") {
		t.Error("Only")
	}
	p.Bad("y", "do")
	if err := p.Err("open", id); err.Class != kms.Invalid || err.Detail != "x; y" || err.Advice != "do" || p.Only("x") {
		t.Errorf("%v", err)
	}
}

func blobs(n int) []kms.Wrapped {
	out := make([]kms.Wrapped, n)
	for i := range out {
		out[i].Blob = []byte{byte(i)}
	}
	return out
}

// What stops the rest of a call, and what failed it all.
func TestOpenEach(t *testing.T) {
	for _, tc := range []struct {
		name  string
		class kms.Class
		scope Scope
		sent  int64 // of 10, two at a time; -1: as many as were under way
		all   bool
	}{
		{"about one item", kms.Corrupt, OneItem, 10, false},
		{"about the key", kms.Denied, AllItems, -1, true},
		{"bad luck for two", kms.Unavailable, Luck, -1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var sent atomic.Int64
			errs, all := OpenEach(t.Context(), 2, "unwrap", id, blobs(10), Refusal{}, func(int) (*kms.Error, Scope) {
				sent.Add(1)
				return refused(tc.class), tc.scope
			})
			if got := sent.Load(); tc.sent >= 0 && got != tc.sent || tc.sent < 0 && got > 4 {
				t.Errorf("%d requests", got)
			}
			if (all != nil) != tc.all || all != nil && (errs != nil || kms.ClassOf(all) != tc.class) {
				t.Errorf("%v, all %v", errs, all)
			}
		})
	}
	t.Run("foreign blobs are not sent", func(t *testing.T) {
		errs, all := OpenEach(t.Context(), 2, "unwrap", id, []kms.Wrapped{{}, {Blob: make([]byte, kms.MaxWrappedSize+1)}, {Blob: []byte("x")}}, Refusal{Class: kms.Corrupt},
			func(i int) (*kms.Error, Scope) {
				if i != 2 {
					t.Errorf("blob %d was sent", i)
				}
				return nil, OneItem
			})
		if all != nil || kms.ClassOf(errs[0]) != kms.Corrupt || kms.ClassOf(errs[1]) != kms.Corrupt || errs[2] != nil {
			t.Errorf("%v, %v", errs, all)
		}
	})
	t.Run("a refusal tells more than bad luck", func(t *testing.T) {
		_, all := OpenEach(t.Context(), 1, "unwrap", id, blobs(2), Refusal{}, func(i int) (*kms.Error, Scope) {
			if i == 0 {
				return refused(kms.Denied), AllItems
			}
			return refused(kms.Unavailable), Luck
		})
		if kms.ClassOf(all) != kms.Denied {
			t.Errorf("%v", all)
		}
	})
	t.Run("the caller gave up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, all := OpenEach(ctx, 2, "unwrap", id, blobs(2), Refusal{}, func(int) (*kms.Error, Scope) {
			cancel()
			return refused(kms.Unavailable), Luck
		})
		if kms.ClassOf(all) != kms.Canceled || !errors.Is(all, context.Canceled) {
			t.Errorf("%v", all)
		}
	})
}

func TestWrapEach(t *testing.T) {
	keys := [][]byte{{1}, {2}, {3}}
	got, err := WrapEach(t.Context(), 2, "wrap", id, keys, func(_ context.Context, d []byte) (kms.Wrapped, *kms.Error) {
		return kms.Wrapped{Blob: d}, nil
	})
	if err != nil || fmt.Sprint(got) != fmt.Sprint([]kms.Wrapped{{Blob: keys[0]}, {Blob: keys[1]}, {Blob: keys[2]}}) {
		t.Errorf("%v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, want := range []kms.Class{kms.Denied, kms.Canceled} {
		got, err = WrapEach(ctx, 2, "wrap", id, keys, func(context.Context, []byte) (kms.Wrapped, *kms.Error) {
			return kms.Wrapped{}, refused(kms.Denied)
		})
		if got != nil || kms.ClassOf(err) != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
		cancel()
	}
}

func TestSessions(t *testing.T) {
	dialed, ended := 0, 0
	s := NewSessions[string](func(int) error { ended++; return nil })
	use := func() func() error {
		conn, release, err := s.Use("s3cret", func() (int, error) { dialed++; return dialed, nil })
		if conn != 1 || err != nil {
			t.Errorf("session %d, %v", conn, err)
		}
		return release
	}
	a, b := use(), use()
	if text := fmt.Sprintf("%v %#v", s, s); text != "driver.Sessions driver.Sessions" {
		t.Errorf("it prints as %s", text)
	}
	if err := errors.Join(a(), b()); err != nil || dialed != 1 || ended != 1 {
		t.Errorf("%d dialed, %d ended, %v", dialed, ended, err)
	}
	down := errors.New("down")
	if _, _, err := s.Use("s3cret", func() (int, error) { return 0, down }); !errors.Is(err, down) {
		t.Errorf("%v", err)
	}
}
