package blackout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxseal/waxseal/e2e/internal/faultproxy"
	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// Arm is one kind of outage and the workflows that go through it.
type Arm struct {
	Name     string
	Mode     faultproxy.Mode
	Timing   Timing
	Orders   int  // workflows sealed by Waxseal
	Control  int  // the same workflows with the plain codec
	Kill     bool // kill the workers in the outage, and start them again with nothing in their caches
	Once     bool // have activities that may be tried only once
	MustHold bool // see Lane
	MustWait bool // see Lane
	MustLose bool // of the control, see Lane
}

// Config says what to run. Progress, if set, is called every second.
type Config struct {
	Arms     []Arm
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Phase string
	Since time.Duration
	Lanes []Standing
}

// Standing is the last sample of a lane.
type Standing struct {
	*Lane
	Sample
}

const (
	// The workers of an arm that kills are killed firstKill after the outage began and
	// again in the middle of it, and start again after deadFor. Temporal notices a worker
	// that vanished with a task when the task times out. That timeout grows with the tries:
	// 10 s up to the third, then 20, 40 and so on up to 10 minutes. So at the end no task
	// may still wait in a try that began before the middle.
	firstKill = 10 * time.Second
	deadFor   = 3 * time.Second
	// controlGrace is how long a control may take to end after the outage: those of
	// its workflows that lost a signal never do.
	controlGrace = 30 * time.Second
	// tellWithin bounds reading what became of the workflows.
	tellWithin = 2 * time.Minute
)

// run is a Run under way.
type run struct {
	Config
	report  *Report
	began   time.Time
	lanes   []*lane
	proxies []*faultproxy.Proxy
}

// Run runs all arms at the same time against one Temporal server and returns what
// became of them. When ctx ends before, it returns what is known together with
// the cause. The program that calls it calls IsWorker first.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	r := &run{Config: cfg, report: &Report{}}
	r.tell("starting the servers")
	var namespaces []string
	for _, a := range cfg.Arms {
		namespaces = append(namespaces, a.Name, a.Name+"-control")
	}
	temporal, err := servers.RunTemporal(ctx, servers.TemporalOptions{Namespaces: namespaces})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, temporal.Stop()) }()
	vault, err := servers.RunVault(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vault.Stop()) }()
	if err := vault.NewKey(ctx, vaultKey); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx, temporal.HostPort, vault.Addr); err != nil {
		return nil, err
	}
	if err := r.live(ctx); err != nil {
		r.report.Interrupted = true
		return r.report, err
	}
	return r.report, nil
}

// open opens the lanes of all arms.
func (r *run) open(ctx context.Context, hostPort, vault string) error {
	for _, a := range r.Arms {
		proxy, err := faultproxy.Open(ctx, vault)
		if err != nil {
			return err
		}
		r.proxies = append(r.proxies, proxy)
		for _, l := range r.lanesOf(a) {
			r.lanes = append(r.lanes, l)
			r.report.Lanes = append(r.report.Lanes, l.Lane)
			if err := l.open(ctx, hostPort, vault, proxy); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) lanesOf(a Arm) []*lane {
	sealed := &lane{namespace: a.Name, timing: a.Timing, Lane: &Lane{
		Arm: a.Name, Mode: a.Mode.String(), Cut: seconds(a.Timing.cut()), Healed: seconds(a.Timing.heal()), Workflows: a.Orders, Untold: a.Orders, MustHold: a.MustHold, MustWait: a.MustWait, Trickles: a.Mode == faultproxy.Throttled,
	}}
	for n := range a.Orders {
		sealed.orders = append(sealed.orders, newOrder(n, a.Timing, a.Once))
	}
	if a.Control == 0 {
		return []*lane{sealed}
	}
	control := &lane{namespace: a.Name + "-control", timing: a.Timing, Lane: &Lane{
		Arm: a.Name, Mode: a.Mode.String(), Cut: sealed.Cut, Healed: sealed.Healed, Control: true, Workflows: a.Control, Untold: a.Control, MustLose: a.MustLose,
	}}
	control.orders = sealed.orders[:min(a.Control, a.Orders)]
	return []*lane{sealed, control}
}

// close stops workers and proxies.
func (r *run) close() error {
	var wg sync.WaitGroup
	errs := make([]error, len(r.lanes))
	for i, l := range r.lanes {
		wg.Go(func() { errs[i] = l.close() })
	}
	wg.Wait()
	for _, p := range r.proxies {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// live goes through it all: workflows start, the KMSs go and come back, the
// workflows end, and their histories are read.
func (r *run) live(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.began = time.Now()
	r.report.Began = r.began.UTC()
	defer func() { r.report.Took = seconds(time.Since(r.began)) }()

	var wg sync.WaitGroup
	defer wg.Wait()
	driving, stop := context.WithCancel(ctx)
	defer stop()
	for _, l := range r.lanes {
		wg.Go(func() { l.drive(driving, r.began) })
	}
	for i, a := range r.Arms {
		wg.Go(func() {
			if err := r.outage(driving, a, r.proxies[i]); err != nil && driving.Err() == nil {
				cancel(err)
			}
		})
	}
	if err := r.watch(ctx); err != nil {
		return err
	}
	stop()
	r.tell("reading histories")
	telling, done := context.WithTimeout(ctx, tellWithin)
	defer done()
	errs := make([]error, len(r.lanes))
	for i, l := range r.lanes {
		l.Lane.Signals, l.Unsealed, l.Counts = int(l.signals.Load()), int(l.refused.Load()), l.crew.Counts()
		wg.Go(func() { errs[i] = l.tell(telling) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// watch takes samples until all has ended, or the time is up.
func (r *run) watch(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		since := time.Since(r.began)
		over, dark := true, 0
		for _, l := range r.lanes {
			if err := l.sample(ctx, since); err != nil {
				return err
			}
			over = over && l.over(since)
			if since > l.timing.cut() && since < l.timing.heal() {
				dark++
			}
		}
		switch {
		case dark > 0:
			r.tell("outage")
		case since < r.lanes[0].timing.cut():
			r.tell("workflows start")
		default:
			r.tell("the KMS is back")
		}
		if over {
			return nil
		}
	}
}

// tell prints progress.
func (r *run) tell(phase string) {
	if r.Progress == nil {
		return
	}
	p := Progress{Phase: phase}
	if !r.began.IsZero() {
		p.Since = time.Since(r.began)
	}
	for _, l := range r.lanes {
		p.Lanes = append(p.Lanes, Standing{l.Lane, l.now()})
	}
	r.Progress(p)
}

// outage takes the KMS of one arm away and gives it back, and kills workers where
// the arm says so.
func (r *run) outage(ctx context.Context, a Arm, proxy *faultproxy.Proxy) error {
	cut, heal := r.began.Add(a.Timing.cut()), r.began.Add(a.Timing.heal())
	if err := sleepUntil(ctx, cut); err != nil {
		return err
	}
	if err := proxy.Set(ctx, a.Mode); err != nil {
		return err
	}
	if a.Kill {
		for _, after := range killsIn(a.Timing.Outage) {
			if err := sleepUntil(ctx, cut.Add(after)); err != nil {
				return err
			}
			if err := r.restart(ctx, a); err != nil {
				return err
			}
		}
	}
	if err := sleepUntil(ctx, heal); err != nil {
		return err
	}
	if err := proxy.Set(ctx, faultproxy.Healthy); err != nil {
		return err
	}
	healed := time.Now()
	for _, l := range r.lanes {
		if l.Arm == a.Name {
			l.mu.Lock()
			l.healed = healed
			l.mu.Unlock()
		}
	}
	return nil
}

// killsIn returns when in an outage workers are killed.
func killsIn(outage time.Duration) []time.Duration {
	if outage/2 < firstKill+2*deadFor { // they are to have done something in between
		return []time.Duration{firstKill}
	}
	return []time.Duration{firstKill, outage / 2}
}

// restart kills the workers of an arm and starts them again.
func (r *run) restart(ctx context.Context, a Arm) error {
	for _, l := range r.lanes {
		if l.Arm != a.Name {
			continue
		}
		if err := l.crew.kill(); err != nil {
			return err
		}
		if err := sleepUntil(ctx, time.Now().Add(deadFor)); err != nil {
			return err
		}
		if err := l.crew.start(ctx); err != nil {
			return fmt.Errorf("blackout: start a worker in the dark: %w", err)
		}
		l.Killed++
	}
	return nil
}
