package kmstest

import (
	"context"
	"errors"
	"net/url"
	"sync"

	"github.com/waxseal/waxseal/kms"
)

// Backend is a kms.Backend of the scheme "fake" for tests that open keys by
// URI. "fake://name" opens the Fake of that name and makes it on first use; the
// same name always gives the same Fake. Safe for concurrent use.
type Backend struct {
	mu      sync.Mutex
	fakes   map[string]*Fake
	opened  int
	openErr error
}

var _ kms.Backend = (*Backend)(nil)

// NewBackend returns a Backend that opens fakes by their IDs, and others as new.
func NewBackend(fakes ...*Fake) *Backend {
	b := &Backend{fakes: make(map[string]*Fake)}
	for _, f := range fakes {
		b.fakes[f.ID()] = f
	}
	return b
}

// Scheme implements kms.Backend.
func (b *Backend) Scheme() string { return "fake" }

// Open implements kms.Backend.
func (b *Backend) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	id := "fake://" + uri.Host + uri.EscapedPath()
	if err := errors.Join(b.openErr, ctx.Err()); err != nil {
		return nil, &kms.Error{Class: kms.ClassOf(err), Op: "open", KeyID: id, Detail: "scripted fault", Err: err}
	}
	if f, ok := b.fakes[id]; ok {
		return f, nil
	}
	key, err := newFakeKey(id)
	if err != nil {
		return nil, err
	}
	f := &Fake{key: key}
	b.fakes[id] = f
	return f, nil
}

// Fake returns the Fake with the ID "fake://name", or nil if it was not made.
func (b *Backend) Fake(name string) *Fake {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fakes["fake://"+name]
}

// FailOpen makes every Open fail with err from now on; nil ends it.
func (b *Backend) FailOpen(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openErr = err
}

// Opened returns how often Open was called.
func (b *Backend) Opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}
