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
	"github.com/waxseal/waxseal/policy"
)

// If all recipients must wrap, the refusal of one is returned at once, and not after the
// timeout of another.
func TestRefusalIsReturnedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := kmstest.NewBackend()
		c, _ := newWatchedCodec(t, twoKeys, backend)
		backend.Fake("near").Always(kmstest.Stall())
		backend.Fake("far").Always(kmstest.Fail(kms.Denied))
		start := time.Now()
		_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
		wantClass(t, err, kms.Denied)
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %s: %v", took, err)
		}
	})
}

// The error names a KMS that hangs, even if the caller's deadline ends before the KMS's own
// timeouts.
func TestHangingKeyIsNamed(t *testing.T) {
	for _, victim := range []string{"near", "far"} {
		t.Run(victim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := kmstest.NewBackend()
				c, _ := newWatchedCodec(t, twoKeys, backend)
				backend.Fake(victim).Always(kmstest.Stall())
				start := time.Now()
				_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
				wantClass(t, err, kms.Unavailable)
				if took := time.Since(start); took > codec.DefaultCallTimeout || !strings.Contains(err.Error(), "fake://"+victim) {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
	t.Run("opening", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			backend := kmstest.NewBackend()
			maker, _ := newWatchedCodec(t, twoKeys, backend)
			sealed := encode(t, maker, "n", payload(t, 1))
			c, _ := newWatchedCodec(t, twoKeys, backend)
			backend.Fake("near").Always(kmstest.Stall())
			backend.Fake("far").Always(kmstest.Stall())
			err := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0].Err
			wantClass(t, err, kms.Unavailable)
			if !strings.Contains(err.Error(), "fake://near") {
				t.Error(err)
			}
		})
	})
}

// A caller with less time than FailoverAfter also reaches the second recipient.
func TestFailoverWithAShortDeadline(t *testing.T) {
	for _, within := range []time.Duration{200 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			backend := kmstest.NewBackend()
			maker, _ := newWatchedCodec(t, twoKeys, backend)
			sealed := encode(t, maker, "n", payload(t, 1))
			c, _ := newWatchedCodec(t, twoKeys, backend)
			backend.Fake("near").Always(kmstest.Stall())
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			if err := c.Decode(ctx, codec.DecodeOptions{Namespace: "n"}, sealed)[0].Err; err != nil {
				t.Errorf("with %s: %v", within, err)
			}
		})
	}
}

// The longest timeout that a policy may set ends before opening and sealing give up: otherwise
// the breaker would never learn that the KMS hangs.
func TestLongestTimeoutOpensTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := kmstest.NewBackend()
		yaml := twoKeys + "resilience: {timeout: 10s, breaker: {failures: 2}}\n"
		maker, _ := newWatchedCodec(t, yaml, backend)
		var sealed []*commonpb.Payload
		for i := range 4 {
			sealed = append(sealed, encode(t, maker, "n", payload(t, i))...)
		}
		for op, do := range map[string]func(c *codec.Codec, i int){
			"unwrap": func(c *codec.Codec, i int) { c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed[i:i+1]) },
			"wrap": func(c *codec.Codec, i int) {
				_, _ = c.Encode(t.Context(), codec.EncodeOptions{Namespace: "primary"}, []*commonpb.Payload{payload(t, i)})
			},
		} {
			c, s := newWatchedCodec(t, yaml, backend)
			backend.Fake("near").Always(kmstest.Stall())
			for i := range sealed {
				do(c, i)
				<-time.After(15 * time.Second)
			}
			if s.count("breaker", "near", "closed", "open") == 0 {
				t.Errorf("%s: the breaker did not open: %v", op, s.n)
			}
			backend.Fake("near").Heal()
		}
	})
}

// Two names for one KEK in a rule look like two ways to recover. New refuses them, before the
// first workflow fails.
func TestOneKEKTwiceInARule(t *testing.T) {
	o := &opener{open: func(_ context.Context, u *url.URL) (kms.Key, error) { return kmstest.NewFake("same"), nil }}
	_, err := codec.New(t.Context(), codec.Config{Policy: mustParse(t, twoKeys), Registry: kms.NewRegistry(o)})
	if err == nil || !strings.Contains(err.Error(), "fake://same") || !strings.Contains(err.Error(), `"near"`) {
		t.Errorf("got %v", err)
	}
	if opened, closed := o.counts(); opened != closed {
		t.Errorf("%d keys opened, %d closed", opened, closed)
	}
}

// Keys that hang when they are opened are waited for together.
func TestManyKeysHangWhenOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		yaml := `keys: {k0: {uri: "fake://{namespace}-0"}`
		names := "k0"
		for i := 1; i < 8; i++ {
			yaml += fmt.Sprintf(`, k%d: {uri: "fake://{namespace}-%d"}`, i, i)
			names += fmt.Sprintf(", k%d", i)
		}
		yaml += "}\nseal: [{match: {namespace: \"*\"}, keys: [" + names + "], recipients: primary}]\n"
		c, s := newWatchedCodec(t, yaml, &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
			if u.Host != "n-0" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return newFake(ctx, u)
		}})
		start := time.Now()
		if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)}); err != nil {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if n := s.count("missing", "k7", "unavailable"); n != 1 {
			t.Errorf("%v", s.n)
		}
	})
}

// A configured key that cannot be opened is not reported as a key that is not configured.
func TestKeyThatCannotBeOpenedLater(t *testing.T) {
	backend := kmstest.NewBackend()
	maker, _ := newWatchedCodec(t, `{keys: {far: {uri: "fake://far"}}, seal: [{match: {namespace: "*"}, keys: [far]}]}`, backend)
	sealed := encode(t, maker, "primary", payload(t, 1))
	for _, class := range []kms.Class{kms.Unavailable, kms.Denied, kms.NotFound, kms.Internal} {
		t.Run(class.String(), func(t *testing.T) {
			tries := 0
			c, _ := newWatchedCodec(t, twoKeys, &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
				switch {
				case u.Host == "near":
					return newFake(ctx, u)
				case tries == 0:
					tries++
					return nil, &kms.Error{Class: kms.Unavailable, Op: "open"}
				default:
					return nil, &kms.Error{Class: class, Op: "open"}
				}
			}})
			err := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "primary"}, sealed)[0].Err
			wantClass(t, err, class)
			if errors.Is(err, envelope.ErrNotConfigured) {
				t.Error(err)
			}
			// Whether it is already sealed is not known: sealing it twice would be a guess.
			if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "primary"}, sealed); err == nil {
				t.Error("sealed a second time")
			}
		})
	}
}

func mustParse(t *testing.T, yaml string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A call that did not reach the KMS says nothing about a data key: the next call does reach it,
// once the queue has room or the KMS is back.
func TestOnlyAnswersAreRemembered(t *testing.T) {
	const one = `
keys: {near: {uri: "fake://near"}}
seal: [{match: {namespace: "*"}, keys: [near]}]
resilience: {concurrency: 1, queue: 1, attempts: 1, breaker: {failures: 1, openFor: 1s}}
`
	for _, tc := range []struct {
		name    string
		fault   kmstest.Fault
		reached int // failed calls that reached the KMS
	}{
		{"a full queue", kmstest.Slow(10 * time.Millisecond), 0},
		{"an open breaker", kmstest.Fail(kms.Unavailable), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := kmstest.NewBackend()
				maker, _ := newWatchedCodec(t, one, backend)
				sealed := make([]*commonpb.Payload, 10)
				for i := range sealed {
					sealed[i] = encode(t, maker, "n", payload(t, i))[0]
				}
				c, _ := newWatchedCodec(t, one, backend)
				backend.Fake("near").Always(tc.fault)
				open := func() int {
					var failed atomic.Int64
					var wg sync.WaitGroup
					for _, p := range sealed {
						wg.Go(func() {
							if err := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0].Err; err != nil {
								failed.Add(1)
							}
						})
					}
					wg.Wait()
					return int(failed.Load())
				}
				if n := open(); n < len(sealed)/2 {
					t.Fatalf("%d failed: the test shows nothing", n)
				}
				<-time.After(1100 * time.Millisecond)
				backend.Fake("near").Heal()
				failed := 0
				for _, p := range sealed {
					if c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0].Err != nil {
						failed++
					}
				}
				if failed != tc.reached {
					t.Errorf("%d still fail, want those that reached the KMS, %d", failed, tc.reached)
				}
			})
		})
	}
}
