package envelope

import (
	"errors"
	"fmt"
	"time"
)

// How far one data key may be shared at most. With a fresh 128-bit salt for
// each payload the derived payload keys do not collide long before these
// bounds (birthday bound near 2^64 payloads); what the bounds limit is how
// much one leaked data key opens.
const (
	MaxPayloadsPerDataKey = 1_000_000
	MaxDataKeyAge         = time.Hour
	MaxBytesPerDataKey    = 64 << 30
	// MaxSealGrace is as long as a data key may seal at all, and as long as one that
	// was unwrapped serves past its fresh lifetime (DefaultStale): what is sealed in an
	// outage after that could not even be opened again here until its end.
	MaxSealGrace = time.Hour
)

// Defaults of DataKeyLimits.
const (
	DefaultPayloadsPerDataKey = 1
	DefaultDataKeyAge         = 5 * time.Minute
)

// DataKeyLimits says when a data key has sealed enough and a new one is made,
// whichever comes first. Zero fields but SealGrace take the defaults: a data
// key of its own for every payload.
type DataKeyLimits struct {
	// MaxPayloads is how many payloads one data key seals, 1 to 1,000,000.
	MaxPayloads int
	// MaxAge is how long a data key seals after it was wrapped, up to 1 h.
	MaxAge time.Duration
	// MaxBytes is how many plaintext bytes one data key seals, up to 64 GiB. A
	// single payload larger than this still gets a data key, of its own.
	MaxBytes int64
	// SealGrace is how much longer than MaxAge a data key in hand seals while the KMS
	// is unavailable or throttling and so gives no new one, up to 1 h; zero is not at
	// all. Neither MaxPayloads nor MaxBytes is ever exceeded for it: what it gives is what
	// is left of the data keys in hand, one payload each for up to 256 that wait
	// wrapped ahead of need if MaxPayloads is 1. A data key that lacks a recipient has
	// no grace. A KMS that answers Denied, Disabled or NotFound ends it at once, and with
	// it all data keys in hand of that encryption context.
	SealGrace time.Duration
}

func (l DataKeyLimits) withDefaults() DataKeyLimits {
	if l.MaxPayloads == 0 {
		l.MaxPayloads = DefaultPayloadsPerDataKey
	}
	if l.MaxAge == 0 {
		l.MaxAge = DefaultDataKeyAge
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = MaxBytesPerDataKey
	}
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
