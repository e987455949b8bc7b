package envelope_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// memoryRoles are what the children of TestMemory and of TestScanFinds do.
var memoryRoles = map[string]func(*child) error{
	"keeps":    inMemory((*holder).keeps),
	"closes":   inMemory((*holder).closes),
	"evicts":   inMemory((*holder).evicts),
	"drains":   inMemory((*holder).drains),
	"fails":    inMemory((*holder).fails),
	"together": inMemory((*holder).together),
	"signaled": inMemory((*holder).signaled),

	"secret on heap":   secretOnHeap,
	"secret on stack":  secretOnStack,
	"secret in global": secretGlobal,
	"fails on purpose": failOnPurpose,
}

// holding is what a child reports at a stop: all data keys that there ever were, as its
// KEK wrapped them, with those that are still in hand; and all envelopes.
type holding struct {
	Blobs     [][]byte
	InHand    []bool // for each of Blobs
	Envelopes [][]byte
}

// maskingKEK wraps by masking. So the test knows every data key from its wrapped
// form, and the child has it nowhere but where package envelope does.
type maskingKEK struct {
	id     string
	masked func([]byte) []byte

	mu    sync.Mutex
	blobs [][]byte
	// wrapFails and unwrapFails, if set, are called with the data keys that are
	// given or taken, and say what goes wrong.
	wrapFails   func(dataKeys [][]byte, out []kms.Wrapped) ([]kms.Wrapped, error)
	unwrapFails func(out []kms.Unwrapped) ([]kms.Unwrapped, error)
}

func (k *maskingKEK) ID() string { return k.id }

func (k *maskingKEK) Wrap(ctx context.Context, dataKeys [][]byte, _ kms.Context) ([]kms.Wrapped, error) {
	out := make([]kms.Wrapped, len(dataKeys))
	k.mu.Lock()
	for i, d := range dataKeys {
		out[i].Blob = k.masked(d)
		k.blobs = append(k.blobs, out[i].Blob)
	}
	fails := k.wrapFails
	k.mu.Unlock()
	if fails != nil {
		return fails(dataKeys, out)
	}
	return out, ctx.Err()
}

func (k *maskingKEK) Unwrap(ctx context.Context, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Unwrapped, error) {
	out := make([]kms.Unwrapped, len(wrapped))
	for i, w := range wrapped {
		out[i].DataKey = k.masked(w.Blob)
	}
	k.mu.Lock()
	fails := k.unwrapFails
	k.mu.Unlock()
	if fails != nil {
		return fails(out)
	}
	return out, nil
}

// holder is a child that seals and opens.
type holder struct {
	*child
	kek       *maskingKEK
	envelopes [][]byte
}

func inMemory(role func(*holder, context.Context) error) func(*child) error {
	return func(c *child) error {
		return role(&holder{child: c, kek: &maskingKEK{id: "masking://kek", masked: c.Masked}}, context.Background())
	}
}

// look collects garbage and has the test look. inHand says of a wrapped data key
// whether it is still to be found.
func (h *holder) look(inHand func(blob []byte) bool) error {
	runtime.GC()
	h.kek.mu.Lock() // a pool may be wrapping in the background
	told := holding{Blobs: slices.Clone(h.kek.blobs), Envelopes: h.envelopes}
	h.kek.mu.Unlock()
	for _, b := range told.Blobs {
		told.InHand = append(told.InHand, inHand(b))
	}
	return h.Stop(told)
}

func all([]byte) bool  { return true }
func none([]byte) bool { return false }

// among returns a function that reports whether a data key belongs to one of envelopes.
func among(envelopes [][]byte) func([]byte) bool {
	in := make(map[string]bool)
	for _, e := range envelopes {
		in[string(blobOf(e))] = true
	}
	return func(blob []byte) bool { return in[string(blob)] }
}

func (h *holder) newOpener(cfg envelope.OpenerConfig) (*envelope.Opener, error) {
	cfg.Keys = envelope.StaticKeys(h.kek)
	return envelope.NewOpener(cfg)
}

// seal seals n payloads, each under a context of its own if spread.
func (h *holder) seal(ctx context.Context, s *envelope.Sealer, n int, spread bool) error {
	for i := range n {
		c := envelope.Claims{Namespace: "payments"}
		if spread {
			c.Others = map[string]string{"n": fmt.Sprint(i)}
		}
		sealed, err := s.Seal(ctx, c, fmt.Appendf(nil, "plaintext %d", i), make([]byte, i*i%3000))
		if err != nil {
			return err
		}
		for _, e := range sealed {
			h.envelopes = append(h.envelopes, e.Envelope)
		}
	}
	return nil
}

func (h *holder) open(ctx context.Context, o *envelope.Opener, envelopes [][]byte) error {
	for _, e := range envelopes {
		if got := o.Open(ctx, envelope.Item{Envelope: e})[0]; got.Err != nil {
			return got.Err
		}
	}
	return nil
}

// keeps holds on to a key in every shape that it has while it is used.
func (h *holder) keeps(ctx context.Context) error {
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := h.seal(ctx, s, 1, false); err != nil {
		return err
	}
	var kept []any
	for _, e := range h.envelopes {
		dataKey := h.Masked(blobOf(e))
		payloadKey, err := hkdf.Expand(sha256.New, dataKey, infoOf(e), 32)
		if err != nil {
			return err
		}
		block, err := aes.NewCipher(payloadKey)
		if err != nil {
			return err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return err
		}
		fresh, used := hmac.New(sha256.New, dataKey), hmac.New(sha256.New, dataKey)
		used.Reset() // now it has states and no pads
		kept = append(kept, dataKey, payloadKey, aead, fresh, used)
	}
	defer runtime.KeepAlive(kept)
	return h.look(all)
}

// closes uses keys in all ways that go well, and closes what holds them.
func (h *holder) closes(ctx context.Context) error {
	learning, err1 := h.newOpener(envelope.OpenerConfig{})
	cold, err2 := h.newOpener(envelope.OpenerConfig{})
	s, err3 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}, Opener: learning})
	shared, err4 := envelope.NewSealer(envelope.SealerConfig{
		Keys: []kms.Key{h.kek}, Limits: envelope.DataKeyLimits{MaxPayloads: 10}, Compress: true,
	})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if err := errors.Join(h.seal(ctx, s, 20, false), h.seal(ctx, shared, 20, true)); err != nil {
		return err
	}
	for range 2 {
		if err := errors.Join(h.open(ctx, cold, h.envelopes), h.open(ctx, learning, h.envelopes)); err != nil {
			return err
		}
	}
	if err := h.look(all); err != nil {
		return err
	}
	s.Close()
	shared.Close()
	cold.Close()
	learning.Close()
	return h.look(none)
}

// evicts has data keys leave the cache, one way after the other.
func (h *holder) evicts(ctx context.Context) error {
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}})
	if err != nil {
		return err
	}
	if err := h.seal(ctx, s, 20, false); err != nil {
		return err
	}
	s.Close()

	const room = 8
	full, err := h.newOpener(envelope.OpenerConfig{CacheEntries: room})
	if err != nil {
		return err
	}
	if err := h.open(ctx, full, h.envelopes); err != nil {
		return err
	}
	if err := h.look(among(h.envelopes[len(h.envelopes)-room:])); err != nil {
		return err
	}
	full.Close()

	expired := evictions{evicted: make(chan struct{}, len(h.envelopes))}
	brief, err := h.newOpener(envelope.OpenerConfig{Fresh: time.Millisecond, Stale: -1, Observer: expired})
	if err != nil {
		return err
	}
	defer brief.Close()
	if err := h.open(ctx, brief, h.envelopes); err != nil {
		return err
	}
	for range h.envelopes {
		<-expired.evicted
	}
	if err := h.look(none); err != nil {
		return err
	}

	revoked, err := h.newOpener(envelope.OpenerConfig{Fresh: time.Millisecond})
	if err != nil {
		return err
	}
	defer revoked.Close()
	if err := h.open(ctx, revoked, h.envelopes); err != nil {
		return err
	}
	if err := h.look(among(h.envelopes)); err != nil {
		return err
	}
	h.kek.unwrapFails = func(out []kms.Unwrapped) ([]kms.Unwrapped, error) {
		clearAll(out)
		return nil, &kms.Error{Class: kms.Denied}
	}
	for _, e := range h.envelopes {
		for kms.ClassOf(h.open(ctx, revoked, [][]byte{e})) != kms.Denied {
			runtime.Gosched() // it is still fresh
		}
	}
	return h.look(none)
}

// drains has data keys in hand that were wrapped ahead, or have not sealed all they
// may, and drops them.
func (h *holder) drains(ctx context.Context) error {
	single, err1 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}})
	shared, err2 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}, Limits: envelope.DataKeyLimits{MaxPayloads: 1000}})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := errors.Join(h.seal(ctx, single, 20, false), h.seal(ctx, shared, 20, true)); err != nil {
		return err
	}
	single.Close() // waits for data keys that are on their way, so that all are known
	if err := h.look(among(h.envelopes[40:])); err != nil {
		return err
	}
	shared.Drain()
	if err := h.look(none); err != nil {
		return err
	}
	before := h.envelopes
	if err := h.seal(ctx, shared, 1024+100, true); err != nil { // a hundred contexts more than there are pools
		return err
	}
	inHand := among(h.envelopes[len(h.envelopes)-2*1024:])
	h.envelopes = before // the others would make the look slow, and show nothing more
	if err := h.look(inHand); err != nil {
		return err
	}
	shared.Close()
	return h.look(none)
}

// fails has whatever can fail do so while it holds data keys.
func (h *holder) fails(ctx context.Context) error {
	s, err1 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}})
	o, err2 := h.newOpener(envelope.OpenerConfig{})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := h.seal(ctx, s, 5, false); err != nil {
		return err
	}
	for name, fails := range map[string]func([][]byte, []kms.Wrapped) ([]kms.Wrapped, error){
		"error":          func([][]byte, []kms.Wrapped) ([]kms.Wrapped, error) { return nil, &kms.Error{Class: kms.Denied} },
		"panic":          func(dataKeys [][]byte, _ []kms.Wrapped) ([]kms.Wrapped, error) { panic(dataKeys) },
		"goroutine ends": func([][]byte, []kms.Wrapped) ([]kms.Wrapped, error) { runtime.Goexit(); return nil, nil },
		"too few":        func(_ [][]byte, out []kms.Wrapped) ([]kms.Wrapped, error) { return out[:len(out)-1], nil },
		"not recordable": func(_ [][]byte, out []kms.Wrapped) ([]kms.Wrapped, error) { out[0].Version = "@"; return out, nil },
		"no answer":      func(_ [][]byte, out []kms.Wrapped) ([]kms.Wrapped, error) { return nil, nil },
	} {
		fresh, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}})
		if err != nil {
			return err
		}
		h.kek.mu.Lock()
		h.kek.wrapFails = fails
		h.kek.mu.Unlock()
		if _, err := fresh.Seal(ctx, claims, []byte("never sealed")); err == nil {
			return fmt.Errorf("wrap: %s: no error", name)
		}
		fresh.Close()
	}
	for name, fails := range map[string]func([]kms.Unwrapped) ([]kms.Unwrapped, error){
		"panic":          func(out []kms.Unwrapped) ([]kms.Unwrapped, error) { clearAll(out); panic("backend") },
		"too many":       func(out []kms.Unwrapped) ([]kms.Unwrapped, error) { return append(out, out...), nil },
		"error and keys": func(out []kms.Unwrapped) ([]kms.Unwrapped, error) { return out, &kms.Error{Class: kms.Corrupt} },
		"key and error": func(out []kms.Unwrapped) ([]kms.Unwrapped, error) {
			out[0].Err = &kms.Error{Class: kms.Corrupt}
			return out, nil
		},
		"longer": func(out []kms.Unwrapped) ([]kms.Unwrapped, error) {
			longer := append(out[0].DataKey, 0)
			clear(out[0].DataKey)
			out[0].DataKey = longer
			return out, nil
		},
	} {
		h.kek.mu.Lock()
		h.kek.unwrapFails = fails
		h.kek.mu.Unlock()
		fresh, err := h.newOpener(envelope.OpenerConfig{})
		if err != nil {
			return err
		}
		if err := h.open(ctx, fresh, h.envelopes[:1]); err == nil {
			return fmt.Errorf("unwrap: %s: no error", name)
		}
		fresh.Close()
	}
	h.kek.unwrapFails = nil

	// An envelope that is altered, and one that does not commit to its data key.
	altered, swapped := bytes.Clone(h.envelopes[0]), withBlobOf(h.envelopes[0], h.envelopes[1])
	altered[len(altered)-1] ^= 1
	for _, e := range [][]byte{altered, swapped} {
		if err := h.open(ctx, o, [][]byte{e}); kms.ClassOf(err) != kms.Corrupt {
			return fmt.Errorf("open what is not whole: %w", err)
		}
	}
	s.Close()
	o.Close()
	return h.look(none)
}

// together has many goroutines use keys, and the garbage collector run all the time.
func (h *holder) together(ctx context.Context) error {
	o, err1 := h.newOpener(envelope.OpenerConfig{CacheEntries: 16})
	s, err2 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}, Limits: envelope.DataKeyLimits{MaxPayloads: 7}})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	done, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var mu sync.Mutex
	var failed error
	var work sync.WaitGroup
	for range 16 {
		work.Go(func() {
			for n := 0; done.Err() == nil; n++ {
				sealed, err := s.Seal(ctx, claims, make([]byte, 200))
				if err == nil {
					err = h.open(ctx, o, [][]byte{sealed[0].Envelope})
				}
				mu.Lock()
				failed = errors.Join(failed, err)
				if n%50 == 0 {
					h.envelopes = append(h.envelopes, sealed[0].Envelope)
				}
				mu.Unlock()
			}
		})
	}
	for done.Err() == nil {
		runtime.GC()
	}
	work.Wait()
	s.Close()
	o.Close()
	return errors.Join(failed, h.look(none))
}

// signaled has a signal come after each use of a key. It saves to memory what is in
// the registers by then.
func (h *holder) signaled(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o, err1 := h.newOpener(envelope.OpenerConfig{})
	s, err2 := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{h.kek}, Limits: envelope.DataKeyLimits{MaxPayloads: 100}})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for range 100 {
		if err := h.seal(ctx, s, 1, false); err != nil {
			return err
		}
		// The signal with which the runtime preempts goroutines.
		signal := func() error { return syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), syscall.SIGURG) }
		if err := errors.Join(signal(), h.open(ctx, o, h.envelopes[len(h.envelopes)-1:]), signal()); err != nil {
			return err
		}
	}
	s.Close()
	o.Close()
	return h.look(none)
}

// blobOf returns the only wrapped data key of an envelope.
func blobOf(sealed []byte) []byte { return parseSealed(sealed).Recipients[0].WrappedKey }

// infoOf returns what HKDF is given besides the data key.
func infoOf(sealed []byte) string {
	salt := parseSealed(sealed).Salt
	return "waxseal/v1" + string(salt[:])
}

// withBlobOf returns sealed with the wrapped data key of other.
func withBlobOf(sealed, other []byte) []byte {
	out, err := format.Rewrap(sealed, parseSealed(other).Recipients)
	if err != nil {
		panic(err)
	}
	return out
}

func parseSealed(sealed []byte) *format.Envelope {
	env, err := format.Parse(sealed)
	if err != nil {
		panic(err)
	}
	return env
}

func clearAll(out []kms.Unwrapped) {
	for _, u := range out {
		clear(u.DataKey)
	}
}

// evictions observes a cache.
type evictions struct {
	cache.NopObserver
	evicted chan struct{}
}

func (e evictions) CacheEvicted(cache.Reason) { e.evicted <- struct{}{} }
