package codec_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// tenants is a policy in which each namespace has its own key.
const tenants = `
keys: {a: {uri: "fake://a"}, b: {uri: "fake://b"}, old: {uri: "fake://old"}, lab: {uri: "fake://lab"}}
seal:
  - {match: {namespace: "a"}, keys: [a]}
  - {match: {namespace: "b"}, keys: [b], accept: ["c"]}
  - {match: {namespace: "lab-*", taskQueue: "q"}, keys: [lab]}
`

// forge seals for a namespace under a key that is not meant for it, as any program with access
// to the key can.
func forge(t *testing.T, backend *kmstest.Backend, key, namespace string) *commonpb.Payload {
	t.Helper()
	c := newCodecOn(t, fmt.Sprintf(`{keys: {k: {uri: "fake://%s"}}, seal: [{match: {namespace: "*"}, keys: [k]}]}`, key), backend)
	return encode(t, c, namespace, payload(t, "forged"))[0]
}

func TestKeysOpenForTheirNamespacesOnly(t *testing.T) {
	for _, test := range []struct {
		key, sealed, reader string
		opens               bool
	}{
		{"a", "a", "a", true},
		{"a", "a", "", true},
		{"b", "a", "a", false}, // tenant b forges for a
		{"b", "a", "", false},  // also if the reader is not known, as in a codec server
		{"a", "b", "b", false},
		{"b", "c", "b", true}, // b accepts c, and c has no own key here
		{"b", "c", "", false},
		{"a", "c", "b", false},
		{"old", "a", "a", true}, // no rule names the replaced key
		{"old", "c", "", true},
		{"lab", "lab-1", "lab-1", true}, // the rule's other match fields are ignored
		{"lab", "a", "a", false},
		{"a", "nobody", "nobody", false},
	} {
		t.Run(fmt.Sprintf("key %s for %s in %s", test.key, test.sealed, test.reader), func(t *testing.T) {
			backend := kmstest.NewBackend()
			forged := forge(t, backend, test.key, test.sealed)
			backend = kmstest.NewBackend(backend.Fake(test.key).Reopen())
			c := newCodecOn(t, tenants, backend)
			d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: test.reader}, []*commonpb.Payload{forged})[0]
			if opened := d.Err == nil; opened != test.opens {
				t.Fatalf("opened: %v, %v", opened, d.Err)
			}
			if test.opens {
				return
			}
			wantClass(t, d.Err, kms.Denied)
			e, ok := errors.AsType[*kms.Error](d.Err)
			if !ok || !errors.Is(d.Err, envelope.ErrNotConfigured) || d.Namespace != test.sealed {
				t.Errorf("%v", d)
			}
			says := fmt.Sprintf("key %q is configured, but not to open what claims namespace %q", test.key, test.sealed)
			hint := fmt.Sprintf("name key %q in a rule that matches namespace %q", test.key, test.sealed)
			if !strings.Contains(e.Error(), says) || !strings.Contains(e.Hint(), hint) || e.KeyID != "fake://"+test.key {
				t.Errorf("got %v\n%s", e, e.Hint())
			}
			if accepts := strings.Contains(e.Hint(), `of namespace "b" that accepts it`); accepts != (test.reader == "b" && test.sealed == "c") {
				t.Errorf("hint %s", e.Hint())
			}
			if n := backend.Fake(test.key).Counts().Unwraps; n != 0 {
				t.Errorf("%d calls of the KMS", n)
			}
		})
	}
}

// A payload that claims to be sealed under a key that is no candidate is sealed like any other
// bytes.
func TestForgedPayloadIsSealedAgain(t *testing.T) {
	backend := kmstest.NewBackend()
	forged := forge(t, backend, "b", "a")
	c := newCodecOn(t, tenants, backend)
	sealed := encode(t, c, "a", forged)[0]
	if sealed == forged {
		t.Fatal("a payload that b sealed for a leaves unchanged")
	}
	d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "a"}, []*commonpb.Payload{sealed})[0]
	if d.Err != nil || string(d.Payload.GetData()) != string(forged.GetData()) {
		t.Errorf("%v", d)
	}
}

// A sealer's own data keys in the cache do not bypass the check.
func TestCachedDataKeyOfNoCandidate(t *testing.T) {
	c, _ := newCodec(t, `
keys: {b: {uri: "fake://b"}, other: {uri: "fake://other"}}
seal:
  - {match: {namespace: "b*"}, keys: [b]}
  - {match: {namespace: "other"}, keys: [other], accept: ["b2"]}
`)
	sealed := encode(t, c, "b2", payload(t, "x"))[0]
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "other"}, []*commonpb.Payload{sealed})[0]; d.Err != nil {
		t.Errorf("the rule of b2 names the key: %v", d.Err)
	}
	for reader, ok := range map[string]bool{"b2": true, "": true, "b": false} { // Accepts decides this
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: reader}, []*commonpb.Payload{sealed})[0]; (d.Err == nil) != ok {
			t.Errorf("reader %q: %v", reader, d.Err)
		}
	}
}

// fromMany returns forged envelopes, each for its own namespace. id makes the ID of the
// recipient.
func fromMany(t *testing.T, n int, id func(namespace string) string) []*commonpb.Payload {
	t.Helper()
	out := make([]*commonpb.Payload, n)
	for i := range out {
		namespace := fmt.Sprintf("stranger-%d", i)
		out[i] = forge(t, kmstest.NewBackend(), strings.TrimPrefix(id(namespace), "fake://"), namespace)
	}
	return out
}

// matching is a backend that knows the IDs under which its keys are recorded.
type matching struct{ *opener }

func (matching) MayRecord(uri *url.URL, id string) bool { return id == "fake://"+uri.Host }

// A recipient that cannot be a tenant's key opens no key.
func TestForgedEnvelopesOpenNoKeys(t *testing.T) {
	o := &opener{open: newFake}
	c, _ := newWatchedCodec(t, `{keys: {t: {uri: "fake://t-{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [t]}]}`, matching{o})
	for i, d := range c.Decode(t.Context(), codec.DecodeOptions{}, fromMany(t, 100, func(n string) string { return "fake://x-" + n })) {
		wantClass(t, d.Err, kms.Denied)
		if !errors.Is(d.Err, envelope.ErrNotConfigured) {
			t.Errorf("%d: %v", i, d.Err)
		}
	}
	if opened, _ := o.counts(); opened != 0 {
		t.Errorf("%d keys opened", opened)
	}
}

// Possible keys are opened together, up to a limit, and block no longer than one key.
func TestKeysOfOneCallAreOpenedTogether(t *testing.T) {
	forged := fromMany(t, 100, func(n string) string { return "fake://t-" + n })
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var now, most int
		o := &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-time.After(100 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return newFake(ctx, u)
		}}
		c, _ := newWatchedCodec(t, `{keys: {t: {uri: "fake://t-{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [t]}]}`, o)
		start := time.Now()
		for _, d := range c.Decode(t.Context(), codec.DecodeOptions{}, forged) {
			wantClass(t, d.Err, kms.Corrupt)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if opened, _ := o.counts(); opened != 100 || most != 16 {
			t.Errorf("%d keys opened, %d at a time", opened, most)
		}
	})
}

// Keys that hang delay the call's other envelopes once, not once for each key.
func TestKeysThatHangTogether(t *testing.T) {
	forged := fromMany(t, 40, func(n string) string { return "fake://t-" + n })
	const yaml = `
keys: {t: {uri: "fake://t-{namespace}"}, good: {uri: "fake://good"}}
seal:
  - {match: {namespace: "good"}, keys: [good]}
  - {match: {namespace: "*"}, keys: [t]}
`
	good := kmstest.NewBackend()
	sealed := encode(t, newCodecOn(t, yaml, good), "good", payload(t, "x"))
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		hanging := true
		o := &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
			switch {
			case u.Host == "good":
				return good.Open(ctx, u)
			case !hanging:
				return newFake(ctx, u)
			}
			tries.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		c, _ := newWatchedCodec(t, yaml, o)
		start := time.Now()
		for i, d := range c.Decode(t.Context(), codec.DecodeOptions{}, append(forged, sealed...)) {
			if i == len(forged) {
				if d.Err != nil {
					t.Error(d.Err)
				}
				continue
			}
			wantClass(t, d.Err, kms.Unavailable)
		}
		if took := time.Since(start); took > 3*time.Second || tries.Load() != 16 {
			t.Errorf("it took %s and %d keys", took, tries.Load())
		}
		// A key that was tried is not tried again for a while. Other keys are.
		<-time.After(time.Second)
		start, hanging = time.Now(), false
		for i, d := range c.Decode(t.Context(), codec.DecodeOptions{}, forged) {
			if i < 16 {
				wantClass(t, d.Err, kms.Unavailable)
			} else {
				wantClass(t, d.Err, kms.Corrupt)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
		<-time.After(10 * time.Second)
		for _, d := range c.Decode(t.Context(), codec.DecodeOptions{}, forged) {
			wantClass(t, d.Err, kms.Corrupt)
		}
	})
}

// If all keys of a call hang, the caller's deadline ends it.
func TestAllKeysOfACallHang(t *testing.T) {
	forged := fromMany(t, 20, func(n string) string { return "fake://t-" + n })
	synctest.Test(t, func(t *testing.T) {
		o := &opener{open: func(ctx context.Context, _ *url.URL) (kms.Key, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		c, _ := newWatchedCodec(t, `{keys: {t: {uri: "fake://t-{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [t]}]}`, o)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		for _, d := range c.Decode(ctx, codec.DecodeOptions{}, forged) {
			wantClass(t, d.Err, kms.Canceled)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// oneID is a backend that records its keys without the place in their URI.
type oneID struct{ places bool }

func (oneID) Scheme() string { return "fake" }

func (b oneID) Open(_ context.Context, u *url.URL) (kms.Key, error) {
	if u.Query().Get("out") != "" {
		return nil, &kms.Error{Class: kms.Unavailable, Op: "open"}
	}
	key := kmstest.NewFake(u.Host)
	if !b.places {
		return key, nil
	}
	return placed{key, u.Query().Get("at")}, nil
}

type placed struct {
	kms.Key
	at string
}

func (p placed) Location() string { return p.at }

func TestTwoKeysWithOneID(t *testing.T) {
	const rules = "\nseal: [{match: {namespace: \"a\"}, keys: [a]}, {match: {namespace: \"*\"}, keys: [b]}]"
	for _, test := range []struct {
		name, keys string
		places     bool
		refused    bool
	}{
		{"two places", `keys: {a: {uri: "fake://k?at=1"}, b: {uri: "fake://k?at=2"}}`, true, true},
		{"one place by two URIs", `keys: {a: {uri: "fake://k?at=1&x=1"}, b: {uri: "fake://k?at=1"}}`, true, false},
		{"no word about places", `keys: {a: {uri: "fake://k?x=1"}, b: {uri: "fake://k"}}`, false, true},
		{"a key that no rule names", `keys: {a: {uri: "fake://a"}, b: {uri: "fake://k?at=1"}, old: {uri: "fake://k?at=2"}}`, true, true},
		{"two IDs", `keys: {a: {uri: "fake://a?at=1"}, b: {uri: "fake://k?at=1"}}`, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := codec.New(t.Context(), codec.Config{Policy: mustParse(t, test.keys+rules), Registry: kms.NewRegistry(oneID{test.places})})
			if !test.refused {
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				return
			}
			wantClass(t, err, kms.Internal)
			other := "a"
			if strings.Contains(test.keys, "old") {
				other = "old"
			}
			if text := err.Error(); !strings.Contains(text, `"b"`) || !strings.Contains(text, `"`+other+`"`) || !strings.Contains(text, "fake://k") || strings.Contains(text, "at=") {
				t.Error(err)
			}
			if e, ok := errors.AsType[*kms.Error](err); !ok || e.Hint() == "" {
				t.Errorf("no hint: %v", err)
			}
		})
	}
}

// If one of the two keys is opened later, the second one is refused then.
func TestTwoKeysWithOneIDLater(t *testing.T) {
	const yaml = `
keys: {a: {uri: "fake://t-{namespace}?at=1"}, b: {uri: "fake://t-{namespace}?at=2"}, c: {uri: "fake://t-fixed?at=3"}}
seal:
  - {match: {namespace: "*", taskQueue: "b"}, keys: [b]}
  - {match: {namespace: "*"}, keys: [a]}
`
	c, _ := newWatchedCodec(t, yaml, oneID{true})
	sealed := encode(t, c, "n", payload(t, "x"))
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0]; d.Err != nil {
		t.Errorf("the first one: %v", d.Err)
	}
	_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "fixed"}, []*commonpb.Payload{payload(t, "x")})
	wantClass(t, err, kms.Internal)
	if !strings.Contains(err.Error(), `keys "c" and "a" are two keys`) {
		t.Error(err)
	}
	// An envelope that names them is not opened with the wrong key.
	cold, _ := newWatchedCodec(t, yaml, oneID{true})
	for range 2 {
		err := cold.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0].Err
		if err == nil || !strings.Contains(err.Error(), "are two keys that envelopes record as one") && kms.ClassOf(err) != kms.Corrupt {
			t.Errorf("got %v", err)
		}
	}
}
