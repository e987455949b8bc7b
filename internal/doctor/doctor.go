package doctor

import (
	"context"
	"sync"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// DefaultTimeout is how long a KMS may take to answer one request.
	DefaultTimeout = 10 * time.Second
	// DefaultCalls is how many calls the latency is measured over.
	DefaultCalls = 20
	// parallel is how many keys are examined at a time: few enough that they do not
	// slow each other down much.
	parallel = 4
)

// Role says what a process does with keys.
type Role uint8

const (
	// Worker seals and opens.
	Worker Role = iota
	// CodecServer opens for people; that it may not seal is no failure.
	CodecServer
)

// Config says how to examine. The zero value is ready for use.
type Config struct {
	Role Role
	// Calls is how many calls the latency is measured over: DefaultCalls if zero,
	// none if negative.
	Calls int
	// Timeout bounds each request to a KMS, and the latency's calls together;
	// DefaultTimeout if zero.
	Timeout time.Duration
	// Done, if any, is called after each key. It may be called concurrently.
	Done func()
}

// Key is what to examine.
type Key struct {
	// Name is what the configuration calls it.
	Name string
	// Namespace that it is examined for; the Name may be examined for several.
	Namespace string
	// URI to show, without what may be a credential.
	URI string
	// Open opens it. Its errors are *kms.Error, as those of kms.Registry.Open.
	Open func(context.Context) (kms.Key, error)
	// Context to wrap under: that of an envelope of Namespace.
	Context kms.Context
	// Samples are data keys that were wrapped elsewhere. One that this key wrapped
	// is unwrapped, too.
	Samples []Sample
}

// Sample is a data key that was wrapped elsewhere.
type Sample struct {
	// KeyID says by which key.
	KeyID   string
	Wrapped kms.Wrapped
	Context kms.Context
	// Right says whether it is the data key that was wrapped.
	Right func(dataKey []byte) bool
}

// Status is the outcome of a check.
type Status uint8

const (
	// Pass means that all is well.
	Pass Status = iota
	// Skip means that it does not apply, or could not be looked at.
	Skip
	// Warn means that it works, and that an operator should know something.
	Warn
	// Fail means that it does not work.
	Fail
)

var statusNames = [...]string{Pass: "pass", Skip: "skip", Warn: "warn", Fail: "fail"}

// String returns the status in a word.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// The checks, in their order. All but Note occur once in each Result.
const (
	Opens       = "opens"       // the URI is understood, and the key can be opened
	Reachable   = "reachable"   // the KMS answers
	Identity    = "identity"    // which identity we have there
	Description = "key"         // what key it is
	Wraps       = "wraps"       // it wraps a data key
	Unwraps     = "unwraps"     // it unwraps that again, or a Sample
	Bound       = "context"     // it does not under another context
	Clock       = "clock"       // its clock and ours agree
	Credentials = "credentials" // when they end
	Latency     = "latency"     // how long calls take
	Note        = "note"        // what else the KMS's backend warns about
)

// Check is one thing that was looked at.
type Check struct {
	Name   string
	Status Status
	// Detail says what was found, in one line.
	Detail string
	// Hint says what to do about it; empty unless it is Warn or Fail.
	Hint string
	// Class of the failure, if the KMS or its backend reported one.
	Class *kms.Class
}

// Result is what was found out about a key.
type Result struct {
	Name, Namespace, URI string
	// ID that envelopes record; empty if the key could not be opened.
	ID     string
	Checks []Check
	// Times of the latency's calls; nil if there were none.
	Times *Times
}

// Status is that of the worst check; Pass if there is nothing worse than Skip.
func (r *Result) Status() Status {
	worst := Pass
	for _, c := range r.Checks {
		if c.Status != Skip {
			worst = max(worst, c.Status)
		}
	}
	return worst
}

// Examine examines keys, some at a time, and returns one Result for each, in
// order. The error is that of ctx, if it ended before all was done.
func Examine(ctx context.Context, keys []Key, cfg Config) ([]Result, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Calls == 0 {
		cfg.Calls = DefaultCalls
	}
	results := make([]Result, len(keys))
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			e := examination{cfg: cfg, key: keys[i]}
			results[i] = e.run(ctx)
			if cfg.Done != nil {
				cfg.Done()
			}
		})
	}
	all.Wait()
	return results, ctx.Err()
}

// ask calls do, which calls a KMS, within Config.Timeout.
func (e *examination) ask(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := kms.WithLimit(ctx, e.cfg.Timeout)
	defer cancel()
	err := do(ctx)
	if err != nil && kms.ClassOf(err) == kms.Canceled && kms.Late(ctx) != nil {
		return kms.NoAnswer("examine", "", e.cfg.Timeout, err)
	}
	return err
}
