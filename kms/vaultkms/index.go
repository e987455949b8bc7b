package vaultkms

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// index remembers the newest state of Vault's storage that an answer named, and demands it
// of the next node that answers: without it a performance standby may not know a token, or
// a key's version, that the active node has just made. Only Vault Enterprise and OpenBao
// name their state; from others nothing is demanded.
type index struct {
	mu     sync.Mutex
	states []string

	noForward atomic.Bool // the server does not allow it
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

// forget drops the state: a cluster that never reaches it, or cannot read it, is another
// one than that which named it, after a restore or a failover.
func (x *index) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.states = nil
}

// refuses reports whether an answer of 400 is about the state that a request
// demands. Vault signs states, so a cluster does not take another's.
func refuses(message string) bool {
	return strings.Contains(message, "state header") || strings.Contains(message, vault.HeaderIndex)
}

// demand adds the state to a request. With forward, a node that does not have it forwards
// the request to the active one.
func (x *index) demand(header http.Header, forward bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, state := range x.states {
		header.Add(vault.HeaderIndex, state)
	}
	if forward {
		header.Set(vault.HeaderInconsistent, forwardToActive)
	}
}

// forwardToActive is refused with a status of 400 by a server that does not allow it in its
// configuration (allow_forwarding_via_header), which is the default. So it is sent only
// after a node has reported that it is behind, and no more once it was refused.
const forwardToActive = "forward-active-node"
