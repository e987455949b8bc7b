package codec

import (
	"sync/atomic"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/resilience"
)

// Hooks observe what a Codec does, for metrics. Any of them may be nil. They are
// called in the goroutines of callers, many at once, and must not block. key is
// the name that the policy gives a key, so there are only as many as it defines:
// keys made from one {namespace} template share theirs. No argument holds a
// secret; kms.ClassOf tells the class of an error.
type Hooks struct {
	// Cache observes the data-key cache.
	Cache cache.Observer
	// MissingRecipient: n payloads were sealed without a recipient that their rule
	// names, because key failed so. Only with recipients: primary.
	MissingRecipient func(key string, class kms.Class, n int)
	// SealedInGrace: n payloads were sealed under data keys past their maxAge, within
	// sealGrace, because the KMS of key failed so to wrap new ones.
	SealedInGrace func(key string, class kms.Class, n int)
	// KMSCall: the KMS was asked to op ("wrap", "unwrap"), took so long, and err is
	// what failed, nil if nothing did.
	KMSCall func(key, op string, err error, took time.Duration)
	// KMSRetry: the KMS is going to be asked again.
	KMSRetry func(key, op string)
	// KMSRejected: the KMS was not asked.
	KMSRejected func(key, op string, why resilience.Reason)
	// Breaker: the breaker of a key goes from one state to another. A key that is
	// closed goes back to resilience.Closed.
	Breaker func(key string, from, to resilience.State)
}

// watchers are the hooks of the configuration, and those that report to the
// client that the Codec is plugged into.
type watchers struct {
	config Hooks
	client atomic.Pointer[Hooks]
}

var _ keyset.Observer = (*watchers)(nil)

func (w *watchers) each(call func(*Hooks)) {
	call(&w.config)
	if h := w.client.Load(); h != nil {
		call(h)
	}
}

// CacheLookup and CacheEvicted make watchers the cache.Observer of the data-key cache.
func (w *watchers) CacheLookup(l cache.Lookup) {
	w.each(func(h *Hooks) {
		if h.Cache != nil {
			h.Cache.CacheLookup(l)
		}
	})
}

func (w *watchers) CacheEvicted(r cache.Reason) {
	w.each(func(h *Hooks) {
		if h.Cache != nil {
			h.Cache.CacheEvicted(r)
		}
	})
}

func (w *watchers) missingRecipient(key string, class kms.Class, n int) {
	w.each(func(h *Hooks) {
		if h.MissingRecipient != nil {
			h.MissingRecipient(key, class, n)
		}
	})
}

func (w *watchers) sealedInGrace(key string, class kms.Class, n int) {
	w.each(func(h *Hooks) {
		if h.SealedInGrace != nil {
			h.SealedInGrace(key, class, n)
		}
	})
}

// KMSCall implements keyset.Observer.
func (w *watchers) KMSCall(key, op string, err error, took time.Duration) {
	w.each(func(h *Hooks) {
		if h.KMSCall != nil {
			h.KMSCall(key, op, err, took)
		}
	})
}

// KMSRetry implements keyset.Observer.
func (w *watchers) KMSRetry(key, op string) {
	w.each(func(h *Hooks) {
		if h.KMSRetry != nil {
			h.KMSRetry(key, op)
		}
	})
}

// KMSRejected implements keyset.Observer.
func (w *watchers) KMSRejected(key, op string, why resilience.Reason) {
	w.each(func(h *Hooks) {
		if h.KMSRejected != nil {
			h.KMSRejected(key, op, why)
		}
	})
}

// Breaker implements keyset.Observer.
func (w *watchers) Breaker(key string, from, to resilience.State) {
	w.each(func(h *Hooks) {
		if h.Breaker != nil {
			h.Breaker(key, from, to)
		}
	})
}
