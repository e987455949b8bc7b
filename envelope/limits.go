package envelope

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Bounds of how far one data key may be shared, and so of how much a leaked one opens. Its
// payload keys collide much later: each has a 128-bit salt (near 2^64 payloads).
const (
	MaxPayloadsPerDataKey = 1_000_000
	MaxDataKeyAge         = time.Hour
	MaxBytesPerDataKey    = 64 << 30
	// MaxSealGrace equals DefaultStale: past that, not even this process could open
	// what it seals in an outage until the KMS is back.
	MaxSealGrace = time.Hour
)

// DataKeyLimits says when a data key has sealed enough and a new one is made: at the
// first limit reached. The zero value is one data key for each payload.
type DataKeyLimits struct {
	// MaxPayloads is how many payloads one data key seals, 1 to 1,000,000; 1 if zero.
	MaxPayloads int
	// MaxAge is how long a data key seals after it was wrapped, up to 1 h; 5 min if zero.
	MaxAge time.Duration
	// MaxBytes is how many plaintext bytes one data key seals, up to 64 GiB, which is
	// also the default. A single larger payload gets a data key that seals nothing else.
	MaxBytes int64
	// SealGrace is how much longer than MaxAge a data key seals while the KMS is unavailable or throttles and so gives
	// no new one, up to 1 h; zero turns it off. MaxPayloads and MaxBytes still hold, so grace lasts as far as the data
	// keys that are ready: one payload each for up to 256 if MaxPayloads is 1. A data key that lacks a recipient has no
	// grace. Denied, Disabled or NotFound from the KMS ends it at once and wipes all data keys of that encryption
	// context.
	SealGrace time.Duration
}

func (l DataKeyLimits) withDefaults() DataKeyLimits {
	l.MaxPayloads = cmp.Or(l.MaxPayloads, 1)
	l.MaxAge = cmp.Or(l.MaxAge, 5*time.Minute)
	l.MaxBytes = cmp.Or(l.MaxBytes, MaxBytesPerDataKey)
	return l
}

func (l DataKeyLimits) validate() error {
	var problems []error
	if l.MaxPayloads < 1 || l.MaxPayloads > MaxPayloadsPerDataKey {
		problems = append(problems, fmt.Errorf("maxPayloads must be 1 to %d", MaxPayloadsPerDataKey))
	}
	if l.MaxAge < 0 || l.MaxAge > MaxDataKeyAge {
		problems = append(problems, fmt.Errorf("maxAge must be up to %s", MaxDataKeyAge))
	}
	if l.MaxBytes < 1 || l.MaxBytes > MaxBytesPerDataKey {
		problems = append(problems, fmt.Errorf("maxBytes must be 1 to %d", int64(MaxBytesPerDataKey)))
	}
	if l.SealGrace < 0 || l.SealGrace > MaxSealGrace {
		problems = append(problems, fmt.Errorf("sealGrace must be up to %s", MaxSealGrace))
	}
	return errors.Join(problems...)
}
