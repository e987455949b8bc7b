package envelope

import (
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
	// DefaultFailoverAfter is many times what a healthy KMS takes, and leaves a
	// caller with a few seconds time for the next recipient.
	DefaultFailoverAfter = time.Second
	// negativeFor is how long a failed unwrap is remembered, so that a burst of
	// readers of one bad envelope asks the KMS once.
	negativeFor = 5 * time.Second
	// cacheJitter spreads the refreshes of data keys that were cached together.
	cacheJitter = 0.1
)

// OpenerConfig says how an Opener opens. Keys is required.
type OpenerConfig struct {
	// Keys returns the KEKs that may be called for each envelope, in order. Open calls
	// it once, with all envelopes that may need one. Keys must answer from
	// configuration alone: what a Wanted says may be forged. StaticKeys returns one for
	// programs whose KEKs are the same for all envelopes.
	Keys func(ctx context.Context, wanted []Wanted) []Found
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
	// FailoverAfter is how long one recipient's KEK may take before the next one's
	// is asked as well, DefaultFailoverAfter if zero; no more than half of what is left
	// until the caller's deadline. One that fails is followed at once.
	FailoverAfter time.Duration
	// MaxPlaintext bounds a plaintext in bytes after decompression,
	// format.MaxPlaintext if zero.
	MaxPlaintext int
	// Hooks observe the data-key cache, for metrics. They must not block.
	Hooks cache.Hooks
}

// Opener opens envelopes. It is safe for concurrent use. It keeps unwrapped
// data keys in a cache; Close wipes them.
type Opener struct {
	cfg      OpenerConfig
	expander *expander
	cache    *cache.Cache[cacheKey, *dataKey]
}

// Item is one envelope to open.
type Item struct {
	// Envelope is what Sealer.Seal returned.
	Envelope []byte
	// KeyIDs name the recipients' keys, in order, where the envelope leaves that
	// to its container; nil otherwise.
	KeyIDs []string
	// Reader is the namespace that the envelope is opened in, empty where that is not
	// known. OpenerConfig.Keys decides by it, nothing else does.
	Reader string
	// Accept, if set, is called once the envelope is parsed and before any KEK is
	// looked for: an error refuses the envelope. The claims are not proven at that
	// point; an envelope whose claims were altered fails later.
	Accept func(Claims) error
	// Room, if set, reports whether the caller has room for a plaintext of size
	// bytes. After one refusal Open decompresses no further item that has a Room: each
	// fails with ErrNoRoom. An envelope of a kilobyte can hold format.MaxPlaintext
	// bytes, so a caller that opens what strangers send gives all items one Room that
	// adds up. One Open never calls it concurrently.
	Room func(size int) bool
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
	cfg.FailoverAfter = orDefault(cfg.FailoverAfter, DefaultFailoverAfter)
	if cfg.FailoverAfter < 0 {
		return nil, errors.New("envelope: new opener: FailoverAfter must not be negative")
	}
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
	expander, err := newExpander(cfg.MaxPlaintext)
	if err != nil {
		return nil, err
	}
	return &Opener{cfg: cfg, expander: expander, cache: c}, nil
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
		if errors.Is(err, kms.ErrNotAsked) {
			return cache.ServeStaleOnce
		}
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
func (o *Opener) learn(kek kek, blob []byte, ec kms.Context, key *dataKey) {
	own := key.clone()
	own.proven.Store(true)
	o.cache.Put(cacheKeyOf(kek, blob, ec.AssociatedData()), own).Release()
}

// Close cancels unwraps under way, waits for them and wipes the cache.
func (o *Opener) Close() { o.cache.Close() }

// Open opens each item: one Opened for each, in order, each with an error of
// its own. Distinct data keys that are not cached are unwrapped together, one
// call for each KEK and encryption context.
//
// An envelope has one candidate for each KEK: of several recipients of one KEK, the
// first. No Sealer makes such envelopes, and no forger has one KEK called several times.
//
// An envelope with several recipients opens without a KMS if the data key of any
// of them is fresh in the cache. Otherwise the recipients are asked in order,
// those last whose KEK is a kms.Availability and not available: the next one as
// soon as one fails, and after FailoverAfter without an answer, while that one is
// waited for still. The first that opens wins. A stale data key serves only if no
// other recipient has opened the envelope FailoverAfter later: a key that was
// revoked must not go on opening for longer than it needs to. It also serves when
// ctx ends before a KEK that was asked has answered.
//
// Classes: Corrupt for an envelope that is malformed, altered or cut short;
// Denied, with ErrNotConfigured in the chain, for one whose keys are not
// configured, or what OpenerConfig.Keys says of it; Canceled if ctx ended; otherwise the KMS's. With several
// recipients that is one that waiting may cure, if there is such.
func (o *Opener) Open(ctx context.Context, items ...Item) []Opened {
	return o.open(ctx, items, false)
}

// open opens each item, or with keyOnly has its data key in the cache.
func (o *Opener) open(ctx context.Context, items []Item, keyOnly bool) []Opened {
	out := make([]Opened, len(items))
	parsed := make([]*opening, 0, len(items))
	full := new(bool)
	for i := range items {
		if p := prepare(&items[i], &out[i]); p != nil {
			p.keyOnly, p.full = keyOnly, full
			parsed = append(parsed, p)
		}
	}
	o.findKeys(ctx, parsed)
	var pending []*opening
	for _, p := range parsed {
		if !p.done && !o.fromCache(p) {
			pending = append(pending, p)
		}
	}
	if len(pending) > 0 {
		newRace(ctx, o).run(pending)
	}
	return out
}

// prepare does what needs no key. It returns nil if that settles the item.
func prepare(item *Item, out *Opened) *opening {
	env, err := format.Parse(item.Envelope)
	if err != nil {
		out.Err = corrupt(err.Error(), err)
		return nil
	}
	out.Claims = ClaimsOf(env.Header)
	if out.KeyIDs, out.Err = recipientKeyIDs(env, item.KeyIDs); out.Err != nil {
		return nil
	}
	if item.Accept != nil {
		if out.Err = item.Accept(out.Claims); out.Err != nil {
			return nil
		}
	}
	p := &opening{out: out, env: env, room: item.Room, ec: out.Claims.EncryptionContext(), wanted: Wanted{Namespace: out.Claims.Namespace, Reader: item.Reader}}
	for _, id := range out.KeyIDs {
		id, _ = kms.SplitVersionedID(id)
		p.wanted.KEKs = append(p.wanted.KEKs, id)
	}
	return p
}

// findKeys finds the candidates of each item, and settles those that have none.
func (o *Opener) findKeys(ctx context.Context, items []*opening) {
	if len(items) == 0 {
		return
	}
	wanted := make([]Wanted, len(items))
	for i, p := range items {
		wanted[i] = p.wanted
	}
	found := o.cfg.Keys(ctx, wanted)
	for i, p := range items {
		if len(found) != len(items) {
			p.settle(nil, openError(kms.Internal, "", fmt.Sprintf("Keys answered %d times for %d envelopes", len(found), len(items)),
				"this is a bug in the calling program", nil))
			continue
		}
		p.choose(found[i])
	}
}

// recipientKeyIDs pairs recipients with key IDs, from inside the envelope or
// from its container but never a mixture.
func recipientKeyIDs(env *format.Envelope, outside []string) ([]string, error) {
	ids, err := env.KeyIDs(outside)
	if err != nil {
		return nil, corrupt(err.Error(), err)
	}
	return ids, nil
}

// finish turns what was decrypted into the plaintext.
func (o *Opener) finish(p *opening, decrypted []byte, err error) ([]byte, error) {
	compression := p.env.Header.Compression
	switch {
	case err != nil:
		return nil, corrupt(err.Error(), err)
	case compression == format.CompressionNone && len(decrypted) > o.cfg.MaxPlaintext:
		return nil, corrupt("the plaintext is larger than allowed", nil)
	case p.room != nil && *p.full:
		clear(decrypted)
		return nil, errNoRoom()
	}
	plaintext, err := o.expander.expand(decrypted, compression)
	if err == nil && p.room != nil && !p.room(len(plaintext)) {
		*p.full = true
		clear(plaintext)
		return nil, errNoRoom()
	}
	return plaintext, err
}
