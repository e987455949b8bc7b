package keyset

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/kms"
)

// errOneID is in the chain of the error for a key that has the ID of another one.
var errOneID = errors.New("keyset: two keys have one ID")

// keyPlace is where the key with some ID is, and its name in the policy.
type keyPlace struct{ name, location string }

// checkPlace refuses a key that has the ID of another key at another place. An envelope
// names its KEK by the ID alone: under the second one it would open only until its data
// key has left the cache. Aliases and multi-Region replicas of a key are at one place.
func (k *Set) checkPlace(key *Key) error {
	here := keyPlace{key.name, key.Location()}
	for _, other := range k.byID[key.ID()] {
		if err := here.sameAs(keyPlace{other.name, other.Location()}, key.ID()); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if there, ok := k.places.Get(key.ID()); ok {
		return here.sameAs(there, key.ID())
	}
	k.places.Add(key.ID(), here)
	return nil
}

func (p keyPlace) sameAs(other keyPlace, id string) error {
	if p.location == other.location {
		return nil
	}
	return &kms.Error{
		Op: "open key", KeyID: id,
		Detail: fmt.Sprintf("keys %q and %q are two keys that envelopes record as one, which leaves those of one of them unreadable", other.name, p.name),
		Advice: "give one of the two keys another name or mount in its KMS, or leave it out of this file", Err: errOneID,
	}
}
