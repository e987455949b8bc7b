package resilience

import (
	"sync"
	"time"
)

const (
	// budgetFloor is how many retries a key has to begin with, and gets back at
	// budgetRefill a second however few calls there are: with a share of the calls
	// alone, a process that calls once a minute could not retry the first nine.
	budgetFloor  = 10.0
	budgetRefill = 1.0
	// budgetMost bounds what calls save up: a day without a failure must not buy a
	// storm of retries the moment the KMS is in trouble.
	budgetMost = 100.0
)

// budget is what a key has to spend on retries. In any stretch of time it allows
// at most budgetMost + share × calls + budgetRefill × seconds of them; from its
// beginning budgetFloor instead of budgetMost.
type budget struct {
	share float64 // of a retry, earned by each call

	mu     sync.Mutex
	tokens float64
	last   time.Time // when time was last counted
}

func newBudget(share float64) *budget {
	return &budget{share: share, tokens: budgetFloor, last: time.Now()}
}

// earn counts a call.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.share, budgetMost)
}

// spend takes one retry out of the budget, or reports that there is none.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.tokens < budgetFloor {
		b.tokens = min(b.tokens+budgetRefill*now.Sub(b.last).Seconds(), budgetFloor)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
