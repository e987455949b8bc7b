package envelope

import "time"

// The sweeper bounds how long keys that no caller takes stay in memory. A pool has one
// timer, and none while it holds no keys.

// setSweep sets the sweeper to the next expiry.
func (p *pool) setSweep() {
	next := p.stock.nextExpiry
	if next.IsZero() || p.evicted || !p.sweepAt.IsZero() && !next.Before(p.sweepAt) {
		return
	}
	p.stopSweep()
	p.sweepAt = next
	p.sweeper = time.AfterFunc(time.Until(next), p.sweep)
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
	p.expire(time.Now())
	p.setSweep()
}
