package keyset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
)

const (
	// keyPatience is how long a call that opens envelopes waits for keys still being opened
	// when it has others to try: a KMS that hangs must not delay envelopes that another opens.
	keyPatience = 2 * time.Second
	// keysAtOnce is how many keys one such call opens at a time: envelopes may be forged.
	keysAtOnce = 16
	// failedOpenFor is the pause, for envelopes, after a key could not be opened.
	failedOpenFor = 5 * time.Second
)

type failedOpen struct {
	err   error
	until time.Time
}

// recentlyFailed returns why a key could not be opened just now, or nil.
func (k *Set) recentlyFailed(uri string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.failed.Get(uri); ok && time.Now().Before(f.until) {
		return f.err
	}
	return nil
}

func (k *Set) remember(uri string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed.Add(uri, failedOpen{err: err, until: time.Now().Add(failedOpenFor)})
}

// Find is the Keys function of the Opener. It returns the KEKs that each envelope names and that are candidates for it
// (policy.Policy.MayOpen). It opens further keys, all of a call together, if they can have the ID that the envelope
// names. An error is that of a key that could not be opened and may or may not be the right one.
func (k *Set) Find(ctx context.Context, wanted []envelope.Wanted) []envelope.Found {
	found := make([]envelope.Found, len(wanted))
	var late lateKeys
	for i := range wanted {
		k.findOpen(&wanted[i], &found[i], func(name, uri string) { late.add(name, uri, &found[i]) })
	}
	k.openLate(ctx, late.inOrder, found)
	for i := range found {
		if len(found[i].Keys) == 0 && found[i].Err == nil {
			found[i].Err = k.notCandidate(&wanted[i])
		}
	}
	return found
}

// findOpen finds the open candidates of w, and calls late for those to be opened.
func (k *Set) findOpen(w *envelope.Wanted, found *envelope.Found, late func(name, uri string)) {
	for _, id := range w.KEKs {
		for _, key := range k.byID[id] {
			if k.policy.MayOpen(key.name, w.Reader, w.Namespace) {
				found.Keys = append(found.Keys, key)
			}
		}
	}
	for _, name := range k.late {
		if !k.policy.MayOpen(name, w.Reader, w.Namespace) {
			continue
		}
		uri, err := k.policy.Keys[name].Expand(w.Namespace)
		if err != nil {
			continue
		}
		if key, ok := k.opened(uri); ok {
			if slices.Contains(w.KEKs, key.ID()) {
				found.Keys = append(found.Keys, key)
			}
			continue
		}
		if !slices.ContainsFunc(w.KEKs, func(id string) bool { return k.registry.MayRecord(uri, id) }) {
			continue
		}
		if err := k.recentlyFailed(uri); err != nil {
			found.Err = k.worse(found.Err, name, err)
			continue
		}
		late(name, uri)
	}
}

// notCandidate returns why no key is a candidate for w although it names an open one, or nil.
func (k *Set) notCandidate(w *envelope.Wanted) error {
	for _, id := range w.KEKs {
		if keys := k.byID[id]; len(keys) > 0 {
			rule := fmt.Sprintf("a rule that matches namespace %q", w.Namespace)
			if w.Reader != "" && w.Reader != w.Namespace {
				rule += fmt.Sprintf(", or in the rule of namespace %q that accepts it", w.Reader)
			}
			return &kms.Error{
				Class: kms.Denied, Op: "open envelope", KeyID: id,
				Detail: fmt.Sprintf("key %q is configured, but not to open what claims namespace %q", keys[0].name, w.Namespace),
				Advice: fmt.Sprintf("if that key may open it, name key %q in %s; no KMS was called", keys[0].name, rule),
				Err:    envelope.ErrNotConfigured,
			}
		}
	}
	return nil
}

// worse returns the problem to report once the key of that name could not be opened: a
// transient one comes first. A template without a key for a namespace is no problem: the
// namespace may be an attacker's choice, and the key need not exist.
func (k *Set) worse(problem error, name string, err error) error {
	transient := kms.ClassOf(err).Transient() || kms.ClassOf(err) == kms.Canceled
	if transient || problem == nil && (!k.policy.Keys[name].Templated() || errors.Is(err, errOneID)) {
		return err
	}
	return problem
}

// lateKey is a key that is to be opened, and the envelopes that may need it.
type lateKey struct {
	name, uri string
	founds    []*envelope.Found
	begun     atomic.Bool
	done      bool
}

// lateKeys are the keys that one call has to open. The zero value is empty.
type lateKeys struct {
	byURI   map[string]*lateKey
	inOrder []*lateKey
}

func (l *lateKeys) add(name, uri string, found *envelope.Found) {
	key := l.byURI[uri]
	if key == nil {
		key = &lateKey{name: name, uri: uri}
		if l.byURI == nil {
			l.byURI = make(map[string]*lateKey)
		}
		l.byURI[uri] = key
		l.inOrder = append(l.inOrder, key)
	}
	key.founds = append(key.founds, found)
}

// openLate opens keys, keysAtOnce at a time, and adds each, or its error, to the envelopes
// that may need it. It waits for all, but only for keyPatience once any envelope has a key.
func (k *Set) openLate(ctx context.Context, late []*lateKey, all []envelope.Found) {
	if len(late) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx) // what is being opened goes on without us
	defer cancel()
	haveKeys := slices.ContainsFunc(all, func(f envelope.Found) bool { return len(f.Keys) > 0 })
	collect(k.startOpening(ctx, late), len(late), &haveKeys, func(o openedLate) {
		o.late.done = true
		haveKeys = haveKeys || o.err == nil
		if o.err != nil && kms.ClassOf(o.err) != kms.Canceled {
			k.remember(o.late.uri, o.err)
		}
		k.give(o)
	})
	k.giveUp(late)
}

// collect calls f with n outcomes as they come. Once there is a key to go on with, it stops after keyPatience.
func collect[T any](outcomes <-chan T, n int, haveKey *bool, f func(T)) {
	patience := time.NewTimer(keyPatience)
	defer patience.Stop()
	for range n {
		var enough <-chan time.Time
		if *haveKey {
			enough = patience.C
		}
		select {
		case o := <-outcomes:
			f(o)
		case <-enough:
			return
		}
	}
}

// openedLate is what became of a lateKey.
type openedLate struct {
	late *lateKey
	key  kms.Key
	err  error
}

// startOpening opens keys in the background and sends each outcome. It begins none after ctx ends.
func (k *Set) startOpening(ctx context.Context, late []*lateKey) <-chan openedLate {
	outcomes := make(chan openedLate, len(late))
	queue := make(chan *lateKey, len(late))
	for _, l := range late {
		queue <- l
	}
	close(queue)
	for range min(keysAtOnce, len(late)) {
		go func() {
			for l := range queue {
				o := openedLate{late: l}
				if ctx.Err() != nil {
					o.err = gaveUpOpening(ctx, l.uri)
				} else {
					l.begun.Store(true)
					o.key, o.err = k.tenant(ctx, l.name, l.uri)
				}
				outcomes <- o
			}
		}()
	}
	return outcomes
}

// give adds a key, or its error, to the envelopes that may need it.
func (k *Set) give(o openedLate) {
	for _, found := range o.late.founds {
		if o.err == nil {
			found.Keys = append(found.Keys, o.key)
		} else {
			found.Err = k.worse(found.Err, o.late.name, o.err)
		}
	}
}

// giveUp says of the keys that are not open yet that they took too long.
func (k *Set) giveUp(late []*lateKey) {
	for _, l := range late {
		if l.done {
			continue
		}
		err := NoAnswer(l.name, keyPatience, nil)
		if l.begun.Load() {
			k.remember(l.uri, err)
		}
		k.give(openedLate{late: l, err: err})
	}
}
