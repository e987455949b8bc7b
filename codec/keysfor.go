package codec

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// keyPatience is how long those who open an envelope wait for keys that are still
// being opened when they have others to try: a KMS that hangs must not keep
// envelopes from the recipients that another one opens.
const keyPatience = 2 * time.Second

// failedOpenFor is how long a key that could not be opened is not tried again by
// those who open envelopes: one call may have hundreds, and each asks for keys.
const failedOpenFor = 5 * time.Second

type failedOpen struct {
	err   error
	until time.Time
}

// recentlyFailed returns why a key could not be opened just now, or nil.
func (k *keyring) recentlyFailed(uri string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.failed.Get(uri); ok && time.Now().Before(f.until) {
		return f.err
	}
	return nil
}

func (k *keyring) remember(uri string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed.Add(uri, failedOpen{err: err, until: time.Now().Add(failedOpenFor)})
}

// all returns every configured KEK that may be asked about envelopes of a
// namespace. A namespace that cannot stand in a template is simply not among
// those that templates make keys for. With an error, it returns those keys that
// could be had: whether one of the others is the right one cannot be told now.
func (k *keyring) all(ctx context.Context, namespace string) ([]kms.Key, error) {
	if len(k.flat) == len(k.names) {
		return k.flat, nil
	}
	keys := slices.Clone(k.flat)
	var problem error
	toOpen := make(map[string]string) // name by URI
	for _, name := range k.names {
		if k.fixed[name] != nil {
			continue
		}
		uri, err := k.policy.Keys[name].Expand(namespace)
		if err != nil {
			continue
		}
		if key, ok := k.opened(uri); ok {
			keys = append(keys, key)
			continue
		}
		if err := k.recentlyFailed(uri); err != nil {
			problem = k.worse(problem, name, err)
			continue
		}
		toOpen[uri] = name
	}
	if len(toOpen) > 0 {
		return k.openAll(ctx, toOpen, keys, problem)
	}
	return keys, problem
}

// worse adds to problem that the key of that name could not be opened. What waiting
// may cure is told first. That a template gives a namespace no key is no problem: the
// namespace may be a stranger's choice, and the key not be meant to exist.
func (k *keyring) worse(problem error, name string, err error) error {
	transient := kms.ClassOf(err).Transient() || kms.ClassOf(err) == kms.Canceled
	if transient || problem == nil && !k.policy.Keys[name].Templated() {
		return err
	}
	return problem
}

// openAll opens keys, all at once, and appends them to keys. It adds to problem.
func (k *keyring) openAll(ctx context.Context, nameByURI map[string]string, keys []kms.Key, problem error) ([]kms.Key, error) {
	type outcome struct {
		uri string
		key kms.Key
		err error
	}
	ctx, cancel := context.WithCancel(ctx) // what is being opened goes on without us
	defer cancel()
	outcomes := make(chan outcome, len(nameByURI))
	for uri, name := range nameByURI {
		go func() {
			key, err := k.tenant(ctx, name, uri)
			outcomes <- outcome{uri, key, err}
		}()
	}
	patience := time.NewTimer(keyPatience)
	defer patience.Stop()
	for waiting := len(nameByURI); waiting > 0; {
		var enough <-chan time.Time
		if len(keys) > 0 {
			enough = patience.C
		}
		select {
		case o := <-outcomes:
			waiting--
			name := nameByURI[o.uri]
			delete(nameByURI, o.uri)
			if o.err == nil {
				keys = append(keys, o.key)
				continue
			}
			if kms.ClassOf(o.err) != kms.Canceled {
				k.remember(o.uri, o.err)
			}
			problem = k.worse(problem, name, o.err)
		case <-enough:
			for uri, name := range nameByURI {
				problem = &kms.Error{
					Class: kms.Unavailable, Op: "open key", Detail: fmt.Sprintf("key %q: no answer within %s", name, keyPatience),
					Advice: "check that the KMS is up and reachable from here",
				}
				k.remember(uri, problem)
			}
			return keys, problem
		}
	}
	return keys, problem
}
