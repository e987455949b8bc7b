package envelope

import "time"

// Sweeping makes the time of wiping certain: data keys that nobody asks for any more
// would otherwise stay in memory for as long as the process lives. One timer runs
// for what is in hand, and none while that is nothing.

// setSweep has the keys sorted out when the time of the next one has come.
func (p *pool) setSweep() {
	due := p.hand.due
	if due.IsZero() || p.out || !p.sweepAt.IsZero() && !due.Before(p.sweepAt) {
		return
	}
	p.stopSweep()
	p.sweepAt = due
	p.sweeper = time.AfterFunc(time.Until(due), p.sweep)
}

func (p *pool) stopSweep() {
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.sweepAt = time.Time{}
}

func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.sweepAt = time.Time{}
	p.age(time.Now())
	p.setSweep()
}
