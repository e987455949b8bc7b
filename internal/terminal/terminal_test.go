package terminal

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEscape(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "payments ü 支払い €", "payments ü 支払い €"},
		{"colour", "a\x1b[31mb", `a\x1b[31mb`},
		{"lines and tabs", "a\nb\tc\r", `a\nb\tc\r`},
		{"one byte control", "a\u009bb", `a\u009bb`},
		{"direction", "a\u202eb", `a\u202eb`},
		{"no width", "a\u200bb\ufeff", `a\u200bb\ufeff`},
		{"beyond the basic plane", "😀\U000e0001", `😀\U000e0001`},
		{"not UTF-8", "a\xff\x80b", `a\xff\x80b`},
		{"the replacement character itself", "\ufffd", "\ufffd"},
		{"backslash", `a\b`, `a\b`},
		{"empty", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Escape(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := EscapeLines("a\nb\x1b"); got != "a\nb\\x1b" {
		t.Errorf("lines: %q", got)
	}
}

func TestStyle(t *testing.T) {
	if got := Style(true).Error("x") + Style(true).Warning("x") + Style(true).Hint("x") + Style(true).Bold("x"); got != "\x1b[1;31mx\x1b[0m\x1b[1;33mx\x1b[0m\x1b[36mx\x1b[0m\x1b[1mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
	if got := Style(false).Error("x"); got != "x" {
		t.Errorf("without colours: %q", got)
	}
	none := func(string) (string, bool) { return "", false }
	if StyleFor(&bytes.Buffer{}, none) {
		t.Error("a buffer gets colours")
	}
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if bool(StyleFor(f, none)) || Is(f) {
		t.Error("a file is taken for a terminal")
	}
}

func TestTable(t *testing.T) {
	table := Table{Header: []string{"NAME", ">SIZE", "NOTE"}}
	table.Row("ü", "12345", "")
	table.Row("longer\x1b", "1", "x")
	var b strings.Builder
	if err := table.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "NAME         SIZE  NOTE\n" +
		"ü           12345\n" +
		"longer\\x1b      1  x\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	for n := range 2 {
		if err := table.Write(&failing{after: n}, true); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after %d lines: %v", n, err)
		}
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after == 0 {
		return 0, os.ErrClosed
	}
	f.after--
	return len(p), nil
}

// screen is a buffer for two goroutines.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// take returns what was written since its last call.
func (s *screen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b screen
		p := startProgress(&b, 7, "payloads opened")
		p.Add(2)
		time.Sleep(showAfter - 1) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if got := b.take(); got != "" {
			t.Errorf("too early: %q", got)
		}
		time.Sleep(time.Nanosecond) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if got := b.take(); got != "\r2 of 7 payloads opened\x1b[K" {
			t.Errorf("got %q", got)
		}
		p.Add(3)
		time.Sleep(refresh) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if got := b.take(); got != "\r5 of 7 payloads opened\x1b[K" {
			t.Errorf("got %q", got)
		}
		p.Stop()
		p.Stop()
		if got := b.take(); got != "\r\x1b[K" {
			t.Errorf("at the end: %q", got)
		}
	})
}

func TestProgressOfShortWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := startProgress(&b, 7, "payloads opened")
		p.Add(7)
		p.Stop()
		if b.Len() > 0 {
			t.Errorf("got %q", b.String())
		}
	})
}

func TestProgressWithoutTerminal(t *testing.T) {
	var b bytes.Buffer
	p := StartProgress(&b, 7, "payloads opened")
	p.Add(1)
	p.Stop()
	if b.Len() > 0 {
		t.Errorf("got %q", b.String())
	}
}
