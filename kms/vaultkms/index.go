package vaultkms

import (
	"net/http"
	"slices"
	"sync"
	"time"

	vault "github.com/hashicorp/vault/api"
)

const (
	// A node that is behind the state we have seen answers 412. It catches up in
	// milliseconds, so waiting a little is better than failing: so often, so long.
	maxStale  = 3
	staleWait = 100 * time.Millisecond

	// maxIndex bounds what we send back of a header that only Vault understands.
	maxIndex = 512
)

// index remembers the newest state of Vault's storage that an answer told of, and
// demands it of whichever node answers next: without it a performance standby
// may not know a token, or a key's version, that the active node has just made.
// Only Vault Enterprise and OpenBao tell their state; from others nothing is
// demanded.
type index struct {
	mu     sync.Mutex
	states []string
}

// seen takes the state out of an answer.
func (x *index) seen(header http.Header) {
	state := header.Get(vault.HeaderIndex)
	if state == "" || len(state) > maxIndex {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Contains(x.states, state) {
		x.states = vault.MergeReplicationStates(x.states, state)
	}
}

// demand adds the state to a request, and asks a node that does not have it to
// forward the request to the active one. Where forwarding is not allowed
// (allow_forwarding_via_header) the node answers 412 instead.
func (x *index) demand(header http.Header) {
	x.mu.Lock()
	defer x.mu.Unlock()
	header.Del(vault.HeaderIndex)
	for _, state := range x.states {
		header.Add(vault.HeaderIndex, state)
	}
	if len(x.states) > 0 {
		header.Set(vault.HeaderInconsistent, "forward-active-node")
	}
}
