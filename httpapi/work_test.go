package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// byName fails a payload with the class that its data names, "plain" for an error without one.
func byName(original *commonpb.Payload) error {
	if string(original.GetData()) == "plain" {
		return errPlain
	}
	for _, class := range kms.Classes() {
		if string(original.GetData()) == class.String() {
			return fmt.Errorf("codec: decode payload: %w", &kms.Error{Class: class, Op: "unwrap", KeyID: "local://test/key"})
		}
	}
	return nil
}

func TestUndecoded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		in      string // sealed payloads by their data; "-x" is not sealed
		lenient string // how many are undecoded, or the problem
		strict  string // likewise
	}{
		{"all well", "a b", "0", "0"},
		{"not sealed at all", "-a -b", "0", "0"},
		{"none", "", "0", "0"},
		{"one corrupt", "corrupt", "1", "corrupt"},
		{"one denied", "denied", "1", "denied"},
		{"one without its key", "not found", "1", "key-not-found"},
		{"one with a disabled key", "disabled", "1", "key-disabled"},
		{"one for no known reason", "internal", "1", "internal"},
		{"one with a wrong setting", "invalid", "1", "key-setting"},
		{"one with an error without a class", "plain", "1", "internal"},
		{"one bad among good", "a corrupt b", "1", "corrupt"},
		{"several bad", "denied a corrupt", "2", "denied"},
		{"KMS down", "unavailable", "unavailable", "unavailable"},
		{"KMS down for all", "unavailable unavailable", "unavailable", "unavailable"},
		{"KMS throttles", "throttled", "throttled", "throttled"},
		{"no time left", "canceled", "timeout", "timeout"},
		{"KMS down for some", "unavailable a", "1", "unavailable"},
		{"KMS down, one not sealed", "-a unavailable", "unavailable", "unavailable"},
		{"KMS down and one corrupt", "unavailable corrupt", "2", "corrupt"},
		{"corrupt first", "corrupt unavailable denied", "3", "corrupt"},
		{"passing failures first", "throttled unavailable denied corrupt", "4", "denied"},
	} {
		var in, want []*commonpb.Payload
		for item := range strings.FieldsSeq(strings.ReplaceAll(tc.in, "not found", "not_found")) {
			item = strings.ReplaceAll(item, "not_found", "not found")
			plain, isPlain := strings.CutPrefix(item, "-")
			p := data(plain)
			if isPlain {
				in, want = append(in, p), append(want, p)
				continue
			}
			in = append(in, fakeSeal(p))
			if byName(p) != nil {
				p = fakeSeal(p)
			}
			want = append(want, p)
		}
		for mode, outcome := range map[string]string{"/decode": tc.lenient, "/decode?strict=true": tc.strict, "server": tc.strict} {
			t.Run(tc.name+" "+mode, func(t *testing.T) {
				target := mode
				if mode == "server" {
					target = "/decode?strict=false" // no caller can make a strict server less strict
				}
				s := newServer(t, Config{Codec: &fakeCodec{openErr: byName}, Strict: mode == "server"})
				w := serve(s, post(t, target, strings.NewReader(mustJSON(t, in...))))
				if outcome[0] > '9' {
					wantProblem(t, w, outcome)
					if got := w.Header().Get(headerUndecoded); got != "" {
						t.Errorf("%s: %q beside an error", headerUndecoded, got)
					}
					return
				}
				if w.Code != http.StatusOK || w.Body.String() != mustJSON(t, want...) {
					t.Errorf("got %d %s\nwant %s", w.Code, w.Body, mustJSON(t, want...))
				}
				if got := w.Header().Get(headerUndecoded); got != outcome {
					t.Errorf("%s: %q, want %q", headerUndecoded, got, outcome)
				}
			})
		}
	}
}

// A codec refuses a storage reference that nothing proves. It is plaintext that comes
// back as it was sent, and it counts.
func TestRefusedStorageReference(t *testing.T) {
	const reference = `{"payloads":[{"metadata":{"encoding":"anNvbi9leHRlcm5hbC1zdG9yYWdlLXJlZmVyZW5jZQ=="},"data":"e30="}]}`
	refuses := &fakeCodec{decode: func(_ context.Context, in []*commonpb.Payload) []codec.Decoded {
		return []codec.Decoded{{Payload: in[0], Err: &kms.Error{Class: kms.Denied, Op: "open payload", Detail: "the payload is not sealed"}}}
	}}
	s := newServer(t, Config{Codec: refuses})
	w := serve(s, post(t, "/guarded/decode?preserveStorageRefs=true", strings.NewReader(reference)))
	if w.Code != http.StatusOK || w.Body.String() != reference || w.Header().Get(headerUndecoded) != "1" {
		t.Errorf("for a page: %d %s, %q undecoded", w.Code, w.Body, w.Header().Get(headerUndecoded))
	}
	wantProblem(t, serve(s, post(t, "/guarded/decode?strict=true", strings.NewReader(reference))), "denied")
	wantProblem(t, serve(newServer(t, Config{Codec: refuses, Strict: true}), post(t, "/guarded/decode", strings.NewReader(reference))), "denied")
}

func TestEncodeErrors(t *testing.T) {
	for _, class := range kms.Classes() {
		t.Run(class.String(), func(t *testing.T) {
			s := newServer(t, Config{Codec: &fakeCodec{encodeErr: &kms.Error{Class: class, Op: "wrap"}}})
			w := serve(s, post(t, "/n/encode", strings.NewReader(hiJSON)))
			wantProblem(t, w, problemTable[reasonOf(class)].name)
		})
	}
	t.Run("without a class", func(t *testing.T) {
		s := newServer(t, Config{Codec: &fakeCodec{encodeErr: errPlain}})
		wantProblem(t, serve(s, post(t, "/n/encode", strings.NewReader(hiJSON))), "internal")
	})
	t.Run("a class of tomorrow", func(t *testing.T) {
		if got := reasonOf(kms.Class(200)); got != classInternal {
			t.Errorf("got %v", problemTable[got])
		}
	})
}

// A codec that breaks its contract must not make us break ours.
func TestCodecBreaksContract(t *testing.T) {
	encode := func(out []*commonpb.Payload) *fakeCodec {
		return &fakeCodec{encode: func(context.Context, []*commonpb.Payload) ([]*commonpb.Payload, error) { return out, nil }}
	}
	decode := func(out ...codec.Decoded) *fakeCodec {
		return &fakeCodec{decode: func(context.Context, []*commonpb.Payload) []codec.Decoded { return out }}
	}
	bad := &commonpb.Payload{Metadata: map[string][]byte{"\xff": nil}}
	for _, tc := range []struct {
		name, target string
		codec        *fakeCodec
		problem      string
	}{
		{"encode answers nothing", "/n/encode", encode(nil), "internal"},
		{"encode answers too much", "/n/encode", encode([]*commonpb.Payload{{}, {}}), "internal"},
		{"encode answers nil", "/n/encode", encode([]*commonpb.Payload{nil}), "internal"},
		{"encode answers what no JSON holds", "/n/encode", encode([]*commonpb.Payload{bad}), "internal"},
		{"decode answers nothing", "/decode", decode(), "internal"},
		{"decode answers too much", "/decode", decode(codec.Decoded{Payload: data("a")}, codec.Decoded{Payload: data("a")}), "internal"},
		{"decode answers nil", "/decode", decode(codec.Decoded{}), "internal"},
		{"decode answers what no JSON holds", "/decode", decode(codec.Decoded{Payload: bad}), "internal"},
		{"encode panics", "/n/encode", &fakeCodec{before: func(context.Context) { panic("boom") }}, "panic"},
		{"decode panics", "/decode", &fakeCodec{before: func(context.Context) { panic(errPlain) }}, "panic"},
		{"decode aborts", "/decode", &fakeCodec{before: func(context.Context) { panic(http.ErrAbortHandler) }}, "panic"},
		{"decode dereferences nil", "/decode", &fakeCodec{before: func(context.Context) { var p *int; *p = 1 }}, "panic"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, Config{Codec: tc.codec})
			wantProblem(t, serve(s, post(t, tc.target, strings.NewReader(hiJSON))), tc.problem)
			if len(s.slots) != 0 || s.held.taken.Load() != 0 {
				t.Errorf("%d places and %d bytes are still taken", len(s.slots), s.held.taken.Load())
			}
			// The next request finds the server as good as new.
			tc.codec.before, tc.codec.encode, tc.codec.decode = nil, nil, nil
			if w := serve(s, post(t, "/decode", strings.NewReader(hiJSON))); w.Code != http.StatusOK || w.Body.String() != hiJSON {
				t.Errorf("afterwards: %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestCodecTime(t *testing.T) {
	waits := func(ctx context.Context) { <-ctx.Done() }
	for _, tc := range []struct{ target, problem string }{{"/n/encode", "timeout"}, {"/decode", "timeout"}, {"/decode?strict=true", "timeout"}} {
		t.Run(tc.target, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &fakeCodec{before: waits, encodeErr: context.DeadlineExceeded, openErr: func(*commonpb.Payload) error { return context.DeadlineExceeded }}
				s := newServer(t, Config{Codec: fake})
				wantProblem(t, serve(s, post(t, tc.target, strings.NewReader(sealedJSON(t, data("a"))))), tc.problem)
			})
		})
	}
}

// A caller that does not wait gets nothing, and the codec's context ends.
func TestClientGone(t *testing.T) {
	for _, target := range []string{"/n/encode", "/decode", "/decode?strict=true"} {
		t.Run(target, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			gone := errors.New("gone")
			fake := &fakeCodec{before: func(ctx context.Context) { cancel(); <-ctx.Done() }, encodeErr: context.Canceled, openErr: func(*commonpb.Payload) error { return gone }}
			w := serve(newServer(t, Config{Codec: fake}), post(t, target, strings.NewReader(sealedJSON(t, data("a")))).WithContext(ctx))
			wantProblem(t, w, "client-gone")
		})
	}
}

func TestReplyLimit(t *testing.T) {
	big := data(strings.Repeat("x", 1000))
	fake := &fakeCodec{
		encode: func(_ context.Context, in []*commonpb.Payload) ([]*commonpb.Payload, error) {
			out := make([]*commonpb.Payload, len(in))
			for i := range out {
				out[i] = big
			}
			return out, nil
		},
		decode: func(_ context.Context, in []*commonpb.Payload) []codec.Decoded {
			out := make([]codec.Decoded, len(in))
			for i := range out {
				out[i] = codec.Decoded{Payload: big, Sealed: true}
			}
			return out
		},
	}
	const payloads = 20 * decodeBatch
	body := `{"payloads":[` + strings.Repeat("{},", payloads-1) + `{}]}`
	for _, target := range []string{"/decode", "/n/encode"} {
		t.Run(target, func(t *testing.T) {
			s := newServer(t, Config{Codec: fake, Limits: Limits{ReplyBytes: 300_000, EncodePayloads: payloads}})
			before := len(fake.seen())
			wantProblem(t, serve(s, post(t, target, strings.NewReader(body))), "reply-size")
			// 128 payloads take 180 kB: the second batch is the last that is opened.
			if calls := len(fake.seen()) - before; target == "/decode" && calls != 2 {
				t.Errorf("the codec was called %d times, want 2", calls)
			}
		})
	}
}
