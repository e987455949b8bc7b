package envelope

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

const (
	// maxPools bounds how many encryption contexts a Sealer keeps data keys for;
	// the least recently used is dropped and its keys wiped.
	maxPools = 1024

	// DefaultWrapTimeout bounds one wrap of a batch of data keys, all recipients
	// together, retries of the KMS key included.
	DefaultWrapTimeout = 10 * time.Second
)

// SealerConfig says how a Sealer seals. Keys is required.
type SealerConfig struct {
	// Keys become the recipients, in this order: any one of them opens what the
	// Sealer seals. 1 to 8, each with an ID of its own.
	Keys []kms.Key
	// Limits says how far a data key is shared.
	Limits DataKeyLimits
	// Compress tries zstd before sealing and keeps the result if it is smaller.
	// The length of a compressed envelope tells something about its content:
	// leave it off where an attacker can choose part of a plaintext.
	Compress bool
	// NamedByContainer leaves the key IDs out of the envelopes; the caller keeps
	// Sealed.KeyIDs beside each envelope and passes them to Opener.Open.
	NamedByContainer bool
	// Opener, if set, learns each new data key, so that what was sealed here
	// opens here without a KMS call.
	Opener *Opener
	// WrapTimeout bounds one wrap call, DefaultWrapTimeout if zero.
	WrapTimeout time.Duration
}

// Sealer seals plaintexts into envelopes. It is safe for concurrent use and
// never mutates or retains plaintexts.
type Sealer struct {
	cfg        SealerConfig
	keyIDs     []string
	compressor *compressor

	ctx    context.Context // of wrap calls; ends when the Sealer is closed
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	pools  *simplelru.LRU[cacheKey, *pool]
	closed bool
}

// Sealed is one sealed plaintext.
type Sealed struct {
	// Envelope is the sealed form, in the format of package format.
	Envelope []byte
	// KeyIDs are the recipients' KEKs in order, each with "@version" where the
	// KMS tells it.
	KeyIDs []string
}

// NewSealer returns a Sealer, or an error that lists everything wrong with cfg.
// Close it to wipe the data keys it holds.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.WrapTimeout == 0 {
		cfg.WrapTimeout = DefaultWrapTimeout
	}
	var problems []error
	if len(cfg.Keys) == 0 || len(cfg.Keys) > format.MaxRecipients {
		problems = append(problems, fmt.Errorf("1 to %d keys are needed, got %d", format.MaxRecipients, len(cfg.Keys)))
	}
	seen := make(map[string]bool, len(cfg.Keys))
	var ids []string
	for _, k := range cfg.Keys {
		if err := kms.CheckID(k.ID()); err != nil {
			problems = append(problems, err)
		}
		if seen[k.ID()] {
			problems = append(problems, fmt.Errorf("key %s is named twice", k.ID()))
		}
		seen[k.ID()] = true
		ids = append(ids, k.ID())
	}
	problems = append(problems, cfg.Limits.validate())
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("envelope: new sealer: %w", err)
	}
	s := &Sealer{cfg: cfg, keyIDs: ids}
	var err error
	if cfg.Compress {
		if s.compressor, err = newCompressor(format.MaxPlaintext); err != nil {
			return nil, err
		}
	}
	s.pools, err = simplelru.NewLRU(maxPools, func(_ cacheKey, p *pool) { p.putOut() })
	if err != nil {
		return nil, fmt.Errorf("envelope: new sealer: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// KeyIDs returns the IDs of the KEKs it seals under, in recipient order,
// without versions.
func (s *Sealer) KeyIDs() []string { return append([]string(nil), s.keyIDs...) }

// Seal seals each plaintext (at most format.MaxPlaintext bytes) under claims,
// in order. It is all or nothing: any error means that nothing was sealed. The
// error's Class is that of the KMS, Canceled if ctx ended first, and Internal
// for claims or sizes out of bounds.
func (s *Sealer) Seal(ctx context.Context, claims Claims, plaintexts ...[]byte) ([]Sealed, error) {
	header, err := claims.header(format.CompressionNone)
	if err != nil {
		return nil, err
	}
	sizes := make([]int, len(plaintexts))
	for i, p := range plaintexts {
		if len(p) > format.MaxPlaintext {
			return nil, &kms.Error{
				Op: "seal", Detail: fmt.Sprintf("a plaintext of %d bytes is over the limit of %d", len(p), format.MaxPlaintext),
				Advice: "split it, or store it elsewhere and seal a reference",
			}
		}
		sizes[i] = len(p)
	}
	if len(plaintexts) == 0 {
		return []Sealed{}, ctx.Err()
	}
	p, keys, err := s.take(ctx, claims, sizes)
	if err != nil {
		return nil, err
	}
	defer p.release(keys)
	out := make([]Sealed, len(plaintexts))
	for i, plaintext := range plaintexts {
		h := header
		if s.compressor != nil {
			plaintext, h.Compression = s.compressor.squeeze(plaintext)
		}
		b, err := format.Seal(keys[i].key.b[:], keys[i].recipients, h, plaintext)
		if err != nil {
			return nil, fmt.Errorf("envelope: seal: %w", err)
		}
		out[i] = Sealed{Envelope: b, KeyIDs: keys[i].keyIDs}
	}
	return out, nil
}

func (s *Sealer) take(ctx context.Context, claims Claims, sizes []int) (*pool, []*sealingKey, error) {
	for {
		p, err := s.poolFor(claims.context())
		if err != nil {
			return nil, nil, err
		}
		keys, err := p.take(ctx, sizes)
		if errors.Is(err, ErrClosed) && !s.isClosed() {
			continue // the pool was the least recently used just now; take another
		}
		return p, keys, err
	}
}

func (s *Sealer) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Sealer) poolFor(ec kms.Context) (*pool, error) {
	id := cacheKeyOf("", nil, ec.AssociatedData())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &kms.Error{Op: "seal", Detail: "the sealer is closed", Err: ErrClosed}
	}
	if p, ok := s.pools.Get(id); ok {
		return p, nil
	}
	p := &pool{
		limits:     s.cfg.Limits,
		wrap:       func(n int) ([]*sealingKey, error) { return s.wrap(n, ec) },
		background: func(f func()) { s.work.Go(f) },
	}
	s.pools.Add(id, p)
	return p, nil
}

// wrap makes n data keys and wraps them under every KEK, the KEKs in parallel.
// All of them or none: an envelope that misses a recipient would be found out
// only in the disaster that the recipient is there for.
func (s *Sealer) wrap(n int, ec kms.Context) ([]*sealingKey, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.WrapTimeout)
	defer cancel()
	keys := make([]*sealingKey, n)
	plain := make([][]byte, n)
	for i := range keys {
		keys[i] = &sealingKey{key: newDataKey(), recipients: make([]format.Recipient, len(s.cfg.Keys)), keyIDs: make([]string, len(s.cfg.Keys))}
		plain[i] = keys[i].key.b[:]
	}
	errs := make([]error, len(s.cfg.Keys))
	var wg sync.WaitGroup
	for r, kek := range s.cfg.Keys {
		wg.Go(func() { errs[r] = s.wrapFor(ctx, r, kek, keys, plain, ec) })
	}
	wg.Wait()
	if err := mostTelling(errs); err != nil {
		for _, k := range keys {
			k.key.wipe()
		}
		return nil, fmt.Errorf("envelope: wrap data key: %w", s.explain(ctx, err))
	}
	// Age counts from here: keys that a slow KMS returns past their age would be
	// thrown away unused, and asked for again, for ever.
	made := time.Now()
	for _, k := range keys {
		k.made = made
	}
	if s.cfg.Opener != nil {
		for _, k := range keys {
			s.cfg.Opener.learn(s.keyIDs[0], k.recipients[0].WrappedKey, ec, k.key)
		}
	}
	return keys, nil
}

func (s *Sealer) wrapFor(ctx context.Context, r int, kek kms.Key, keys []*sealingKey, plain [][]byte, ec kms.Context) (err error) {
	defer recovered("wrap", kek, &err)
	wrapped, err := kek.Wrap(ctx, plain, ec)
	if err != nil {
		return err
	}
	if len(wrapped) != len(keys) {
		return &kms.Error{Op: "wrap", KeyID: kek.ID(), Detail: fmt.Sprintf("%d wrapped keys for %d data keys", len(wrapped), len(keys))}
	}
	for i, w := range wrapped {
		versioned := kms.VersionedID(kek.ID(), w.Version)
		if format.ValidateRecipients([]format.Recipient{{KeyID: versioned, WrappedKey: w.Blob}}) != nil || strings.Contains(w.Version, "@") {
			return &kms.Error{
				Op: "wrap", KeyID: kek.ID(), Detail: "a wrapped key of a size or version that cannot be recorded",
				Advice: "this is a bug in the backend: please report it",
			}
		}
		keys[i].keyIDs[r] = versioned
		keys[i].recipients[r] = format.Recipient{WrappedKey: w.Blob}
		if !s.cfg.NamedByContainer {
			keys[i].recipients[r].KeyID = versioned
		}
	}
	return nil
}

// explain turns the end of our own timeout, which no caller asked for, into
// what it means: the KMS did not answer.
func (s *Sealer) explain(ctx context.Context, err error) error {
	if s.ctx.Err() != nil {
		return &kms.Error{Op: "wrap", Detail: "the sealer is closed", Err: ErrClosed}
	}
	if kms.ClassOf(err) == kms.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &kms.Error{
			Class: kms.Unavailable, Op: "wrap", Detail: fmt.Sprintf("no answer within %s", s.cfg.WrapTimeout),
			Advice: "check that the KMS is up and reachable from here", Err: err,
		}
	}
	return err
}

// Drain forgets every data key in hand, so that whatever is sealed from now on
// is sealed under new ones, wrapped by the KEKs' current versions.
func (s *Sealer) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools.Values() {
		p.drain()
	}
}

// Close stops wrapping ahead, waits for calls under way to end, and wipes the
// data keys in hand. What is sealed afterwards fails with ErrClosed.
func (s *Sealer) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.cancel()
	for _, p := range s.pools.Values() {
		p.close()
	}
	s.pools.Purge()
	s.mu.Unlock()
	s.work.Wait()
}

// mostTelling returns the error to act on: one that waiting may cure only if
// there is nothing worse to mend first.
func mostTelling(errs []error) error {
	var transient error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if !kms.ClassOf(err).Transient() {
			return err
		}
		transient = err
	}
	return transient
}
