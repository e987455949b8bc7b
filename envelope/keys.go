package envelope

import (
	"context"

	"github.com/waxseal/waxseal/kms"
)

// Wanted is an envelope that needs a KEK. An attacker may have chosen Namespace and KEKs.
type Wanted struct {
	// Namespace is what the envelope claims.
	Namespace string
	// Reader is Item.Reader.
	Reader string
	// KEKs are the IDs of the recipients' KEKs, in order, without versions.
	KEKs []string
}

// Found is the answer to a Wanted.
type Found struct {
	// Keys are the KEKs that may be called for the envelope. Those with an ID not among Wanted.KEKs are ignored.
	Keys []kms.Key
	// Err says why Keys is incomplete. It counts as the error of one more recipient.
	Err error
}

// StaticKeys returns an OpenerConfig.Keys of the same KEKs for every envelope.
func StaticKeys(keys ...kms.Key) func(context.Context, []Wanted) []Found {
	return func(_ context.Context, wanted []Wanted) []Found {
		found := make([]Found, len(wanted))
		for i := range found {
			found[i].Keys = keys
		}
		return found
	}
}

// kek names a KEK by its recorded ID and its location: two KMSs may have a key of one ID.
type kek struct{ id, location string }

func kekOf(key kms.Key) kek {
	k := kek{id: key.ID()}
	if l, ok := kms.As[kms.Locator](key); ok {
		k.location = l.Location()
	}
	return k
}
