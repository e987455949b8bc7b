package kms_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
	"pgregory.net/rapid"
)

// stubBackend opens whatever open returns and remembers the URI it was given.
type stubBackend struct {
	scheme string
	open   func() (kms.Key, error)
	got    *url.URL
}

func (b *stubBackend) Scheme() string { return b.scheme }

func (b *stubBackend) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	b.got = uri
	return b.open()
}

// stubKey is a key with an ID, for tests that use nothing else of it.
type stubKey struct {
	kms.Key
	id       string
	closeErr error
	closed   bool
}

func (k *stubKey) ID() string { return k.id }

func (k *stubKey) Close() error {
	k.closed = true
	return k.closeErr
}

// plainKey is a key that cannot be closed.
type plainKey struct {
	kms.Key
	id string
}

func (k plainKey) ID() string { return k.id }

// wantError checks the class of an error, that it is a *kms.Error with a hint,
// and what text and hint say together.
func wantError(t *testing.T, err error, class kms.Class, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		t.Errorf("error %v (%T), want a *kms.Error", err, err)
		return
	}
	if e.Class != class {
		t.Errorf("Class = %v, want %v: %v", e.Class, class, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+e.Hint(), w) {
			t.Errorf("error does not say %q: %v\nhint: %s", w, err, e.Hint())
		}
	}
}

func TestRegistryOpens(t *testing.T) {
	a := &stubBackend{scheme: "aaa", open: func() (kms.Key, error) { return &stubKey{id: "aaa://k"}, nil }}
	b := &stubBackend{scheme: "bbb", open: func() (kms.Key, error) { return plainKey{id: "bbb://k"}, nil }}
	r := kms.NewRegistry(b, a)
	if diff := cmp.Diff([]string{"aaa", "bbb"}, r.Schemes()); diff != "" {
		t.Errorf("Schemes (-want +got):\n%s", diff)
	}
	for uri, id := range map[string]string{
		"aaa://host/path?x=y#name": "aaa://k",
		"bbb:///path":              "bbb://k",
		"BBB:///path":              "bbb://k", // schemes have no case (RFC 3986, 3.1)
	} {
		key, err := r.Open(t.Context(), uri)
		if err != nil || key.ID() != id {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if a.got.Host != "host" || a.got.Path != "/path" || a.got.RawQuery != "x=y" || a.got.Fragment != "name" {
		t.Errorf("the backend was given %v", a.got)
	}
}

func TestRegistryRefuses(t *testing.T) {
	cause := errors.New("403: token s.SECRET")
	bad := &stubKey{id: "bad id"}
	badToClose := &stubKey{id: "also bad", closeErr: errors.New("cannot close: s.SECRET")}
	for _, tt := range []struct {
		name  string
		uri   string
		open  func() (kms.Key, error)
		class kms.Class
		words []string
	}{
		{"unknown scheme", "gcpkms://p", nil, kms.Invalid, []string{`no backend for scheme "gcpkms"`, "use one of stub, or pass the backend to kms.NewRegistry"}},
		{"bad URI", "stub", nil, kms.Invalid, []string{"does not start with a scheme", "key URIs look like"}},
		{"error with a class", "stub://k", func() (kms.Key, error) {
			return nil, &kms.Error{Class: kms.Denied, Op: "log in", Advice: "renew the token", Err: cause}
		}, kms.Denied, []string{"kms: log in: denied", "renew the token"}},
		{"error of another type", "stub://k?token=s.SECRET", func() (kms.Key, error) { return nil, cause }, kms.Internal, []string{"kms: open with stub://k: internal", "*errors.errorString"}},
		{"ended context", "stub://k", func() (kms.Key, error) { return nil, context.DeadlineExceeded }, kms.Canceled, []string{"canceled"}},
		{"no key", "stub://k", func() (kms.Key, error) { return nil, nil }, kms.Internal, []string{"gave no key", "bug in the backend"}},
		{"ID of another scheme", "stub://k", func() (kms.Key, error) { return plainKey{id: "other://k"}, nil }, kms.Internal, []string{"another scheme", "bug in the backend"}},
		{"unrecordable ID", "stub://k", func() (kms.Key, error) { return bad, nil }, kms.Internal, []string{"no scheme", "rename the key"}},
		{"unrecordable ID and a key that does not close", "stub://k", func() (kms.Key, error) { return badToClose, nil }, kms.Internal, []string{"no scheme"}},
		{"unrecordable ID of a key without Close", "stub://k", func() (kms.Key, error) { return plainKey{id: "stub://a@b"}, nil }, kms.Internal, []string{"or a space or @"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := kms.NewRegistry(&stubBackend{scheme: "stub", open: tt.open}).Open(t.Context(), tt.uri)
			if key != nil {
				t.Error("opened")
			}
			wantError(t, err, tt.class, tt.words...)
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes the cause or the query: %v", err)
			}
		})
	}
	if !bad.closed || !badToClose.closed {
		t.Error("a key that cannot be recorded was left open")
	}
	_, err := kms.NewRegistry().Open(t.Context(), "stub://k")
	wantError(t, err, kms.Invalid, `no backend for scheme "stub"`, "\npass the backend to kms.NewRegistry")
}

func TestNewRegistryPanics(t *testing.T) {
	stub := &stubBackend{scheme: "stub"}
	for name, backends := range map[string][]kms.Backend{
		"nil backend":       {nil},
		"a scheme twice":    {stub, &stubBackend{scheme: "other"}, stub},
		"nil among backend": {stub, nil},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "kms: NewRegistry: ") {
					t.Errorf("recovered %q", text)
				}
			}()
			kms.NewRegistry(backends...)
			t.Error("no panic")
		})
	}
}

func TestParseURI(t *testing.T) {
	for _, uri := range []string{
		"awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"awskms:///alias/name?region=eu-west-1",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
		"hashivault://transit/payments?namespace=team",
		"local:///path/to/keyring#name",
		"local:///with%20space#name",
		"x://",
	} {
		u, err := kms.ParseURI(uri)
		if err != nil || u.String() != uri && uri != "x://" {
			t.Errorf("%s: %v, error %v", uri, u, err)
		}
	}
	for _, tt := range []struct{ name, uri, says string }{
		{"empty", "", "it is empty"},
		{"space", "local:///my keys#k", "a space or a control character"},
		{"line break", "local:///k#k\n", "a space or a control character"},
		{"NUL", "local:///k\x00#k", "a space or a control character"},
		{"DEL", "local:///k\x7f#k", "a space or a control character"},
		{"no scheme", "/var/lib/keyring#SECRET", "does not start with a scheme"},
		{"name only", "SECRET", "does not start with a scheme"},
		{"no slashes", "local:SECRET#k", "does not start with a scheme and ://"},
		{"one slash", "local:/SECRET#k", "does not start with a scheme and ://"},
		{"empty scheme", "://SECRET", "it is not a URI"},
		{"scheme of digits", "1local:///SECRET", "it is not a URI"},
		{"broken escape", "local:///%zzSECRET", "it is not a URI"},
		{"broken port", "hashivault://host:SECRET/k", "it is not a URI"},
		{"user", "hashivault://SECRET@host/k", "a user name or password"},
		{"user and password", "hashivault://me:SECRET@host/k", "a user name or password"},
		{"empty user", "hashivault://@host/SECRET", "a user name or password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := kms.ParseURI(tt.uri)
			if u != nil {
				t.Errorf("parsed: %v", u)
			}
			wantError(t, err, kms.Invalid, tt.says, "key URIs look like")
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes the URI: %v", err)
			}
		})
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("local:///path/to/keyring#name")
	f.Add("awskms:///alias/name?region=eu-west-1")
	f.Add("hashivault://user:password@host/k")
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := kms.ParseURI(uri)
		if (u == nil) == (err == nil) {
			t.Fatalf("%v and error %v", u, err)
		}
		if u != nil && (u.Scheme == "" || u.User != nil || strings.ContainsAny(uri, " \n\t\r\x00")) {
			t.Fatalf("parsed %q", uri)
		}
	})
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"hashivault://me:pass@transit/k?token=s.SECRET#f": "hashivault://transit/k#f",
		"awskms:///alias/name?":                           "awskms:///alias/name",
		"local:///keyring#name":                           "local:///keyring#name",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := kms.Redact(u); got != want {
			t.Errorf("Redact(%s) = %s, want %s", in, got, want)
		}
		if u.String() != in {
			t.Errorf("Redact changed its argument to %s", u)
		}
	}
}

func TestCheckID(t *testing.T) {
	long := "x://" + strings.Repeat("k", kms.MaxKeyIDSize-4)
	for id, says := range map[string]string{
		"local://k5ptxzjqm2dcv7wr/payments":                       "",
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k": "",
		"awskms:///arn:aws:kms:eu-west-1:111122223333:key/k":      "",
		"x://":         "",
		long:           "",
		long + "k":     "longer than 1024 bytes",
		"":             "no scheme",
		"payments":     "no scheme",
		"://payments":  "no scheme",
		"local:/k":     "no scheme",
		"x://a b":      "or a space or @",
		"x://k@1":      "or a space or @",
		"x://k\n":      "or a space or @",
		"x://k\x7f":    "or a space or @",
		"x://clé":      "printable ASCII",
		"x://\xff\xfe": "printable ASCII",
	} {
		err := kms.CheckID(id)
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", id, err)
			}
			continue
		}
		wantError(t, err, kms.Internal, says, "rename the key")
	}
}

func TestVersionedID(t *testing.T) {
	for _, tt := range []struct{ id, version, joined string }{
		{"hashivault://transit/payments", "7", "hashivault://transit/payments@7"},
		{"awskms:///arn:aws:kms:eu-west-1:1:key/k", "", "awskms:///arn:aws:kms:eu-west-1:1:key/k"},
	} {
		if got := kms.VersionedID(tt.id, tt.version); got != tt.joined {
			t.Errorf("VersionedID = %s, want %s", got, tt.joined)
		}
		if id, version := kms.SplitVersionedID(tt.joined); id != tt.id || version != tt.version {
			t.Errorf("SplitVersionedID(%s) = %s, %s", tt.joined, id, version)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := "x://" + rapid.StringMatching(`[!-?A-~]{0,40}`).Draw(t, "id")
		version := rapid.StringMatching(`[0-9a-z]{0,10}`).Draw(t, "version")
		if err := kms.CheckID(id); err != nil {
			t.Fatal(err)
		}
		if gotID, gotVersion := kms.SplitVersionedID(kms.VersionedID(id, version)); gotID != id || gotVersion != version {
			t.Fatalf("%q@%q came back as %q and %q", id, version, gotID, gotVersion)
		}
	})
}
