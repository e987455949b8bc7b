package codec

import (
	"errors"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// recheck is how often a held task is looked at whose KEKs are being left alone.
const recheck = 500 * time.Millisecond

// keks are the KEKs that a held task waits for.
type keks []kms.Availability

// out reports whether none of them is worth asking now; false if there are none.
func (k keks) out() bool {
	for _, kek := range k {
		if kek.Available() {
			return false
		}
	}
	return len(k) > 0
}

// keksOf returns the KEKs of the rule of these facts, if err, for which something is
// held, is about one of them; none if it is about another, or if one of them is not
// open or does not tell whether it is available.
func (c *Codec) keksOf(facts policy.Facts, err error) keks {
	var about *kms.Error
	rule, noRule := c.policy.SealRule(facts)
	if noRule != nil || !errors.As(err, &about) {
		return nil
	}
	var all keks
	among := false
	for _, name := range rule.Keys {
		key, ok := c.keys.ifOpen(name, facts.Namespace)
		if !ok {
			return nil
		}
		kek, ok := kms.As[kms.Availability](key)
		if !ok {
			return nil
		}
		all = append(all, kek)
		among = among || key.ID() == about.KeyID
	}
	if !among {
		return nil
	}
	return all
}

// ifOpen returns the KEK of that name for a namespace, if it is open.
func (k *keyring) ifOpen(name, namespace string) (kms.Key, bool) {
	if key, ok := k.fixed[name]; ok {
		return key, true
	}
	uri, err := k.policy.Keys[name].Expand(namespace)
	if err != nil {
		return nil, false
	}
	return k.opened(uri)
}
