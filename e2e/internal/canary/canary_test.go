package canary

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

func TestFind(t *testing.T) {
	f := NewFlock()
	secret := "before " + f.Canary("a-secret") + " after"
	compressed := func(w func(io.Writer) io.WriteCloser) []byte {
		var b bytes.Buffer
		c := w(&b)
		if _, err := io.WriteString(c, strings.Repeat("padding ", 20)+secret); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gzipped := compressed(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	var wide []byte
	for _, u := range utf16.Encode([]rune(secret)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	for _, tc := range []struct {
		name, want string
		in         []byte
	}{
		{"in the open", "", []byte(secret)},
		{"lower case", "", []byte(strings.ToLower(secret))},
		{"upper case", "", []byte(strings.ToUpper(secret))},
		{"base64", "base64", []byte(`{"data":"` + base64.StdEncoding.EncodeToString([]byte(secret)) + `"}`)},
		{"base64, one byte on", "base64", []byte(base64.StdEncoding.EncodeToString([]byte("x" + secret)))},
		{"base64, two bytes on", "base64", []byte(base64.URLEncoding.EncodeToString([]byte("xx" + secret)))},
		{"base64 in a longer run", "base64", []byte("abc" + base64.RawURLEncoding.EncodeToString([]byte(secret)))},
		{"hexadecimal", "hexadecimal", []byte("x" + hex.EncodeToString([]byte(secret)))},
		{"hexadecimal, half a byte on", "hexadecimal", []byte("f" + strings.ToUpper(hex.EncodeToString([]byte(secret))))},
		{"UTF-16", "UTF-16", wide},
		{"gzip", "gzip", append([]byte("head"), gzipped...)},
		{"gzip, cut", "gzip", gzipped[:len(gzipped)-2]},
		{"zlib", "zlib", compressed(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })},
		{"zstd", "zstd", compressed(func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		})},
		{"snappy", "snappy", compressed(func(w io.Writer) io.WriteCloser { return snappy.NewBufferedWriter(w) })},
		{"snappy block", "snappy block", snappy.Encode(nil, []byte(strings.Repeat("padding ", 20)+secret+secret))},
		{"base64 of gzip", "base64 of gzip", []byte(base64.StdEncoding.EncodeToString(gzipped))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := f.Find(tc.in)
			var has bool
			for _, d := range found["a-secret"] {
				has = has || d == tc.want
			}
			if len(found) != 1 || !has {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestFindNothing(t *testing.T) {
	f := NewFlock()
	for _, in := range []string{
		"", "CANARY-", "CANARY--" + f.run, "CANARY-x", "CANARY-" + f.run, "CANARY-UPPER1-" + f.run,
		NewFlock().Canary("x"), strings.Repeat("\x1f\x8b\x08", 10), "(\xb5/\xfd", "x\x9c", strings.Repeat("A", 100),
	} {
		if found := f.Find([]byte(in)); len(found) != 0 {
			t.Errorf("%q: found %v", in, found)
		}
	}
}

func TestFindAll(t *testing.T) {
	f := NewFlock()
	b := []byte(f.Canary("b") + f.Canary("a") + f.Canary("b") + base64.StdEncoding.EncodeToString([]byte(f.Canary("b"))))
	found := f.Find(b)
	found.Merge(Found{"c": {"gzip"}, "a": {""}})
	if diff := cmp.Diff(Found{"a": {""}, "b": {"", "base64"}, "c": {"gzip"}}, found); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, f.Kinds()); diff != "" {
		t.Error(diff)
	}
}

func TestWords(t *testing.T) {
	f := NewFlock()
	word := f.Word("a-frame", "someFunctionName")
	found := f.Find([]byte("goroutine 1: SomeFunctionName " + base64.StdEncoding.EncodeToString([]byte("main."+word+"(...)"))))
	if diff := cmp.Diff(Found{"a-frame": {"", "base64"}}, found); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a-frame"}, f.Kinds()); diff != "" {
		t.Error(diff)
	}
}

func TestBadKinds(t *testing.T) {
	for _, kind := range []string{"", "-a", "a-", "a--b", "A", "a1", "a b"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q made a canary", kind)
				}
			}()
			NewFlock().Canary(kind)
		}()
	}
}
