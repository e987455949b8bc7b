package codec_test

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// opener is a backend that opens keys with a function, and counts them.
type opener struct {
	open func(context.Context, *url.URL) (kms.Key, error)

	mu             sync.Mutex
	opened, closed int
}

func (*opener) Scheme() string { return "fake" }

func (o *opener) Open(ctx context.Context, u *url.URL) (kms.Key, error) {
	key, err := o.open(ctx, u)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened++
	return closable{key, o}, nil
}

func (o *opener) counts() (opened, closed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened, o.closed
}

type closable struct {
	kms.Key
	o *opener
}

func (c closable) Close() error {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	c.o.closed++
	return nil
}

func newTemplateCodec(t *testing.T, o *opener) *codec.Codec {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(`{keys: {a: {uri: "fake://{namespace}"}}, seal: [{match: {namespace: "*"}, keys: [a]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(o)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newFake(_ context.Context, u *url.URL) (kms.Key, error) { return kmstest.NewFake(u.Host), nil }

// A caller that joins an open begun by another caller did not cancel it when it times out: in
// workflow code such an error would fail the workflow permanently.
func TestOpenThatTimesOutIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTemplateCodec(t, &opener{open: func(ctx context.Context, _ *url.URL) (kms.Key, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{{}})
				if kms.ClassOf(err) != kms.Unavailable {
					t.Errorf("got %v", err)
				}
			})
			<-time.After(time.Second)
		}
		wg.Wait()
	})
}

func TestClosedCodecOpensNoKeys(t *testing.T) {
	o := &opener{open: newFake}
	c := newTemplateCodec(t, o)
	sealed := encode(t, c, "n", payload(t, "x"))
	c.Close()
	if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "other"}, []*commonpb.Payload{payload(t, "x")}); err == nil {
		t.Error("a closed codec encodes")
	}
	if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed); d[0].Err == nil {
		t.Error("a closed codec decodes")
	}
	if opened, closed := o.counts(); opened != 1 || closed != 1 {
		t.Errorf("%d keys opened, %d closed", opened, closed)
	}
}

func TestCloseWhileOpening(t *testing.T) {
	for name, late := range map[string]func(context.Context, *url.URL) (kms.Key, error){
		"that fails":    func(ctx context.Context, _ *url.URL) (kms.Key, error) { <-ctx.Done(); return nil, ctx.Err() },
		"that succeeds": func(ctx context.Context, u *url.URL) (kms.Key, error) { <-ctx.Done(); return newFake(ctx, u) },
	} {
		t.Run(name, func(t *testing.T) {
			called := make(chan struct{})
			o := &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
				close(called)
				return late(ctx, u)
			}}
			c := newTemplateCodec(t, o)
			failed := make(chan error)
			go func() {
				_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{{}})
				failed <- err
			}()
			<-called
			c.Close()
			if opened, closed := o.counts(); opened != closed {
				t.Errorf("%d keys opened, %d closed", opened, closed)
			}
			if err := <-failed; err == nil {
				t.Error("sealed by a closed codec")
			}
		})
	}
}

func TestBackendThatPanics(t *testing.T) {
	c := newTemplateCodec(t, &opener{open: func(context.Context, *url.URL) (kms.Key, error) { panic("CANARY") }})
	_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, "x")})
	wantClass(t, err, kms.Internal)
}
