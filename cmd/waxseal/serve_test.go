package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/httpapi"
)

// idle is a codec that is never called.
type idle struct{}

func (idle) Encode(context.Context, codec.EncodeOptions, []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return nil, nil
}

func (idle) Decode(context.Context, codec.DecodeOptions, []*commonpb.Payload) []codec.Decoded {
	return nil
}

// The server ends if its admin listener fails, and the other way round.
func TestServeEndsWithEitherListener(t *testing.T) {
	api, err := httpapi.New(httpapi.Config{Codec: idle{}})
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		ln, err := api.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for _, tc := range []struct {
		name string
		ends func(ln, admin net.Listener) net.Listener
	}{
		{"admin", func(_, admin net.Listener) net.Listener { return admin }},
		{"server", func(ln, _ net.Listener) net.Listener { return ln }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ln, admin := listen(), listen()
			if err := tc.ends(ln, admin).Close(); err != nil {
				t.Fatal(err)
			}
			if err := serve(t.Context(), api, ln, admin); !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
			for _, l := range []net.Listener{ln, admin} {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v still listens: %v", l.Addr(), err)
				}
			}
		})
	}
}

func TestServed(t *testing.T) {
	if err := served(nil); err != nil {
		t.Errorf("got %v", err)
	}
	err := served(fmt.Errorf("x: %w", httpapi.ErrCut))
	if diff := cmp.Diff([]string{"their callers saw an error and may try again"}, hints(err)); diff != "" || exitCode(err) != exitFailure {
		t.Errorf("%v %s", err, diff)
	}
}
