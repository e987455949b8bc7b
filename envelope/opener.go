package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// Defaults of OpenerConfig.
const (
	DefaultCacheEntries  = 10_000
	DefaultFresh         = 5 * time.Minute
	DefaultStale         = time.Hour
	DefaultUnwrapTimeout = 10 * time.Second
	// negativeFor is how long a failed unwrap is remembered, so that a burst of
	// readers of one bad envelope asks the KMS once.
	negativeFor = 5 * time.Second
	// cacheJitter spreads the refreshes of data keys that were cached together.
	cacheJitter = 0.1
)

// OpenerConfig says how an Opener opens. Keys is required.
type OpenerConfig struct {
	// Keys returns the KEKs that may be asked about envelopes of a namespace.
	// The namespace is what the envelope claims and may be an attacker's choice:
	// Keys must answer from configuration alone.
	Keys func(ctx context.Context, namespace string) ([]kms.Key, error)
	// CacheEntries is how many unwrapped data keys are kept, DefaultCacheEntries if zero.
	CacheEntries int
	// Fresh is how long a data key serves without asking the KMS again, ±10 %,
	// DefaultFresh if zero. Revoking a KEK bites within this time.
	Fresh time.Duration
	// Stale is how much longer it serves while the KMS is unavailable or
	// throttling; DefaultStale if zero, off if negative.
	Stale time.Duration
	// UnwrapTimeout bounds one unwrap of a batch, DefaultUnwrapTimeout if zero.
	UnwrapTimeout time.Duration
	// MaxPlaintext bounds a plaintext in bytes after decompression,
	// format.MaxPlaintext if zero.
	MaxPlaintext int
	// Hooks observe the data-key cache, for metrics. They must not block.
	Hooks cache.Hooks
}

// Opener opens envelopes. It is safe for concurrent use. It keeps unwrapped
// data keys in a cache; Close wipes them.
type Opener struct {
	cfg        OpenerConfig
	compressor *compressor
	cache      *cache.Cache[cacheKey, *dataKey]
}

// Item is one envelope to open.
type Item struct {
	// Envelope is what Sealer.Seal returned.
	Envelope []byte
	// KeyIDs name the recipients' keys, in order, where the envelope leaves that
	// to its container; nil otherwise.
	KeyIDs []string
	// Accept, if set, is asked once the envelope is parsed and before any key is:
	// an error refuses it. The claims are not yet proven then; an envelope whose
	// claims were altered fails later, whatever Accept said.
	Accept func(Claims) error
}

// Opened is the outcome for one Item: the plaintext, or an error.
type Opened struct {
	Plaintext []byte
	// Claims and KeyIDs are what the envelope says, as far as it could be
	// parsed; proven only when Err is nil.
	Claims Claims
	KeyIDs []string
	Err    error
}

// NewOpener returns an Opener, or an error that lists everything wrong with cfg.
func NewOpener(cfg OpenerConfig) (*Opener, error) {
	if cfg.Keys == nil {
		return nil, errors.New("envelope: new opener: Keys is required")
	}
	cfg.CacheEntries = orDefault(cfg.CacheEntries, DefaultCacheEntries)
	cfg.Fresh = orDefault(cfg.Fresh, DefaultFresh)
	cfg.Stale = max(orDefault(cfg.Stale, DefaultStale), 0)
	cfg.UnwrapTimeout = orDefault(cfg.UnwrapTimeout, DefaultUnwrapTimeout)
	cfg.MaxPlaintext = orDefault(cfg.MaxPlaintext, format.MaxPlaintext)
	if cfg.MaxPlaintext < 0 || cfg.MaxPlaintext > format.MaxPlaintext {
		return nil, fmt.Errorf("envelope: new opener: MaxPlaintext must be up to %d", format.MaxPlaintext)
	}
	c, err := cache.New[cacheKey](cache.Config[*dataKey]{
		MaxEntries: cfg.CacheEntries, Fresh: cfg.Fresh, Stale: cfg.Stale, Jitter: cacheJitter,
		NegativeFor: negativeFor, LoadTimeout: cfg.UnwrapTimeout,
		Classify: verdict, Wipe: (*dataKey).wipe, Hooks: cfg.Hooks,
	})
	if err != nil {
		return nil, fmt.Errorf("envelope: new opener: %w", err)
	}
	comp, err := newCompressor(cfg.MaxPlaintext)
	if err != nil {
		return nil, err
	}
	return &Opener{cfg: cfg, compressor: comp, cache: c}, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// verdict is the table of what a failed unwrap means for a data key in the cache.
func verdict(err error) cache.Verdict {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled:
		return cache.ServeStale
	case kms.Denied, kms.Disabled, kms.NotFound, kms.Corrupt:
		return cache.Evict
	case kms.Canceled, kms.Internal:
		return cache.Fail
	default:
		return cache.Fail
	}
}

// learn puts a data key that was just wrapped into the cache.
func (o *Opener) learn(kekID string, blob []byte, ec kms.Context, key *dataKey) {
	own := key.clone()
	own.proven.Store(true)
	o.cache.Put(cacheKeyOf(kekID, blob, ec.AssociatedData()), own).Release()
}

// Close cancels unwraps under way, waits for them and wipes the cache.
func (o *Opener) Close() { o.cache.Close() }

// Open opens each item: one Opened for each, in order, each with an error of
// its own. Distinct data keys that are not cached are unwrapped together, one
// call for each KEK and encryption context.
//
// Classes: Corrupt for an envelope that is malformed, altered or cut short;
// Denied, with ErrNotConfigured in the chain, for one whose keys are not
// configured; Canceled if ctx ended; otherwise the KMS's. With several
// recipients the first that opens wins, and the error of a failure is one that
// waiting may cure if there is such.
func (o *Opener) Open(ctx context.Context, items ...Item) []Opened {
	out := make([]Opened, len(items))
	var pending []*opening
	for i := range items {
		if p := o.prepare(ctx, &items[i], &out[i]); p != nil {
			pending = append(pending, p)
		}
	}
	for len(pending) > 0 {
		pending = o.attempt(ctx, pending)
	}
	return out
}

// candidate is one recipient whose KEK is configured.
type candidate struct {
	key  kms.Key
	blob []byte
	id   cacheKey
}

// opening is an item on its way: parsed, with the recipients left to try.
type opening struct {
	out  *Opened
	env  *format.Envelope
	ec   kms.Context
	left []candidate
	errs []error
}

// prepare does what needs no KMS. It returns nil if that settles the item.
func (o *Opener) prepare(ctx context.Context, item *Item, out *Opened) *opening {
	env, err := format.Parse(item.Envelope)
	if err != nil {
		out.Err = corrupt(err.Error(), err)
		return nil
	}
	out.Claims = claimsOf(env.Header)
	if out.KeyIDs, out.Err = recipientKeyIDs(env, item.KeyIDs); out.Err != nil {
		return nil
	}
	if item.Accept != nil {
		if out.Err = item.Accept(out.Claims); out.Err != nil {
			return nil
		}
	}
	configured, err := o.cfg.Keys(ctx, out.Claims.Namespace)
	if err != nil {
		out.Err = fmt.Errorf("envelope: open: %w", err)
		return nil
	}
	p := &opening{out: out, env: env, ec: out.Claims.context()}
	ad := p.ec.AssociatedData()
	for i, recipient := range env.Recipients {
		id, _ := kms.SplitVersionedID(out.KeyIDs[i])
		for _, k := range configured {
			if k.ID() == id {
				// A copy: an unwrap outlives a caller who gives up, and the envelope is theirs.
				p.left = append(p.left, candidate{key: k, blob: bytes.Clone(recipient.WrappedKey), id: cacheKeyOf(id, recipient.WrappedKey, ad)})
			}
		}
	}
	if len(p.left) == 0 {
		id, _ := kms.SplitVersionedID(out.KeyIDs[0])
		out.Err = openError(kms.Denied, id, "the envelope is sealed under a key that is not configured here",
			"if that key may open it, add it to keys in the configuration; no KMS was asked", ErrNotConfigured)
		return nil
	}
	return p
}

// recipientKeyIDs pairs recipients with key IDs, from inside the envelope or
// from its container but never a mixture.
func recipientKeyIDs(env *format.Envelope, outside []string) ([]string, error) {
	if outside == nil {
		ids := make([]string, len(env.Recipients))
		for i, r := range env.Recipients {
			if ids[i] = r.KeyID; r.KeyID == "" {
				return nil, corrupt("a recipient does not name its key, and its container names none", nil)
			}
		}
		return ids, nil
	}
	if len(outside) != len(env.Recipients) {
		return nil, corrupt(fmt.Sprintf("%d key IDs for %d recipients", len(outside), len(env.Recipients)), nil)
	}
	for _, r := range env.Recipients {
		if r.KeyID != "" {
			return nil, corrupt("both the envelope and its container name the keys", nil)
		}
	}
	return outside, nil
}

// attempt tries the next recipient of every item together and returns the items
// that have others left to try.
func (o *Opener) attempt(ctx context.Context, pending []*opening) []*opening {
	ids := make([]cacheKey, len(pending))
	jobs := make(map[cacheKey]unwrapJob, len(pending))
	for i, p := range pending {
		c := p.left[0]
		ids[i] = c.id
		jobs[c.id] = unwrapJob{key: c.key, blob: c.blob, ec: p.ec}
	}
	outcomes := o.cache.GetMany(ctx, ids, func(ctx context.Context, missing []cacheKey) []cache.Result[*dataKey] {
		return unwrapAll(ctx, missing, jobs, o.cfg.UnwrapTimeout)
	})
	var again []*opening
	for i, p := range pending {
		if !o.settle(ctx, p, outcomes[i]) {
			again = append(again, p)
		}
	}
	return again
}

// settle uses one data key, or the lack of it, and reports whether the item is done.
func (o *Opener) settle(ctx context.Context, p *opening, got cache.Outcome[*dataKey]) bool {
	tried := p.left[0]
	p.left = p.left[1:]
	switch {
	case got.Err == nil:
		defer got.Ref.Release()
		key := got.Ref.Value()
		plaintext, err := p.env.Open(key.b[:])
		if !errors.Is(err, format.ErrCommitment) {
			key.proven.Store(true)
			p.out.Plaintext, p.out.Err = o.finish(ctx, p.env, plaintext, err)
			return true
		}
		// Either the envelope lies or the KMS answered with another key. The key is
		// kept only if it is known not to have been the KMS: otherwise a wrong key
		// would stay, and if it always went, a forged envelope could evict good ones.
		if !key.proven.Load() {
			o.cache.Remove(tried.id)
		}
		p.errs = append(p.errs, openError(kms.Corrupt, tried.key.ID(), "the data key is not the one that the envelope commits to",
			"the envelope was altered, or the KMS answered wrongly; fetch the envelope again from where it is stored", nil))
	case ctx.Err() != nil:
		p.out.Err = callerGaveUp(ctx, "open envelope")
		return true
	case errors.Is(got.Err, cache.ErrClosed):
		p.out.Err = openError(kms.Internal, "", "the opener is closed", "", ErrClosed)
		return true
	default:
		p.errs = append(p.errs, got.Err)
	}
	if len(p.left) > 0 {
		return false
	}
	p.out.Err = fmt.Errorf("envelope: open: %w", mostHopeful(p.errs))
	return true
}

// finish turns what was decrypted into the plaintext.
func (o *Opener) finish(ctx context.Context, env *format.Envelope, plaintext []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, corrupt(err.Error(), err)
	}
	if env.Header.Compression == format.CompressionNone && len(plaintext) > o.cfg.MaxPlaintext {
		return nil, corrupt("the plaintext is larger than allowed", nil)
	}
	allowed := allowanceOf(ctx)
	if allowed.isSpent() {
		clear(plaintext)
		return nil, errNoRoom()
	}
	out, err := o.compressor.expand(plaintext, env.Header.Compression)
	if err == nil && !allowed.allows(len(out)) {
		clear(out)
		return nil, errNoRoom()
	}
	return out, err
}

// mostHopeful returns an error that waiting may cure if there is one: while
// any recipient may still open the envelope, it is not lost.
func mostHopeful(errs []error) error {
	for _, err := range errs {
		if kms.ClassOf(err).Transient() {
			return err
		}
	}
	return errs[0]
}
