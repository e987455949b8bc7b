package codec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waxseal/waxseal/codec/internal/guard"
	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/notice"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// DefaultCallTimeout bounds an Encode or Decode if the context of the call has no deadline. A
// Temporal workflow task has 10 s in all.
const DefaultCallTimeout = 5 * time.Second

// DefaultWorkflowWait is how long one workflow task waits for KMSs in all. A task has 10 s by
// default. The server retries one that times out, and records no reason.
const DefaultWorkflowWait = hold.DefaultWorkflowWait

// Config is what a Codec is made of. Policy and Registry are required.
type Config struct {
	Policy   *policy.Policy
	Registry *kms.Registry
	// CallTimeout bounds a call if its context has no deadline; DefaultCallTimeout if zero.
	CallTimeout time.Duration
	// WorkflowWait bounds how long one workflow task waits for KMSs in all. Then the worker
	// fails the task, so that the server retries it. DefaultWorkflowWait if zero. It must stay
	// well below the task timeout, which is 10 s by default.
	WorkflowWait time.Duration
	// ActivityWait bounds how long a conversion in an activity waits for KMSs and retries,
	// instead of failing the attempt. DefaultActivityWait if zero, no wait if negative. The
	// activity's own timeout also bounds it, and the wait ends when the worker stops. The
	// activity keeps its slot meanwhile, and sends heartbeats if it has a heartbeat timeout.
	ActivityWait time.Duration
	// CacheEntries, Fresh and Stale configure the data-key cache; see
	// envelope.OpenerConfig for the meaning of zero.
	CacheEntries int
	Fresh, Stale time.Duration
	// RetiredChanges are changes that workflow code no longer passes to workflow.GetVersion
	// while open workflows still have them in their histories. Each has the form of the search
	// attribute TemporalChangeVersion: "<change ID>-<version>", such as "new-fees-1". In
	// plaintext, a worker sends only these changes and those that its code names. An entry of
	// another form is an error of Class Internal.
	RetiredChanges []string
	// Hooks observe what the Codec does, for metrics. NewPlugin reports to the
	// client's MetricsHandler without them.
	Hooks Hooks
}

// Codec seals and opens Temporal payloads according to a policy. It is safe for concurrent use:
// one Codec serves all clients and workers of a process. Close wipes its data keys.
type Codec struct {
	registry     *kms.Registry
	callTimeout  time.Duration
	activityWait time.Duration // negative if activities do not wait
	waits        *hold.Waits
	tasks        *hold.Tasks
	changes      *guard.Changes
	runs         runs
	notices      notice.Log
	watchers     *watchers
	opener       *envelope.Opener

	now     atomic.Pointer[snapshot]
	retired sync.WaitGroup // snapshots that were replaced and are not closed yet

	mu     sync.Mutex // held while now is replaced
	closed bool
}

// Open returns a Codec for the policy file, with the backends in registry. It returns the
// errors of New. An error about the file states line and column.
func Open(ctx context.Context, file string, registry *kms.Registry) (*Codec, error) {
	p, err := policy.Load(file)
	if err != nil {
		return nil, fmt.Errorf("codec: open: %w", err)
	}
	return New(ctx, Config{Policy: p, Registry: registry})
}

// New returns a Codec. It opens every configured key that is not a template, so that an invalid
// key URI fails here. It calls no KMS to wrap or unwrap.
func New(ctx context.Context, cfg Config) (*Codec, error) {
	if cfg.Policy == nil || cfg.Registry == nil {
		return nil, errors.New("codec: new: Policy and Registry are required")
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = DefaultCallTimeout
	}
	if cfg.WorkflowWait < 0 {
		return nil, errors.New("codec: new: WorkflowWait must not be negative")
	}
	if cfg.WorkflowWait == 0 {
		cfg.WorkflowWait = DefaultWorkflowWait
	}
	if cfg.ActivityWait == 0 {
		cfg.ActivityWait = DefaultActivityWait
	}
	named, err := guard.NewChanges(cfg.RetiredChanges)
	if err != nil {
		return nil, fmt.Errorf("codec: new: %w", err)
	}
	c := &Codec{
		registry: cfg.Registry, callTimeout: cfg.CallTimeout, activityWait: cfg.ActivityWait,
		waits: hold.NewWaits(cfg.WorkflowWait), tasks: hold.NewTasks(), changes: named, watchers: &watchers{config: cfg.Hooks},
	}
	c.tasks.Waits, c.tasks.Holds, c.tasks.KEKsOf, c.tasks.Note = c.waits, c.holds, c.keksOf, c.note
	c.opener, err = envelope.NewOpener(envelope.OpenerConfig{
		Keys: c.find, CacheEntries: cfg.CacheEntries, Fresh: cfg.Fresh, Stale: cfg.Stale, Observer: c.watchers,
		UnwrapTimeout: kmsTimeout(cfg.Policy, envelope.DefaultUnwrapTimeout),
	})
	if err != nil {
		return nil, fmt.Errorf("codec: new: %w", err)
	}
	s, err := c.newSnapshot(ctx, cfg.Policy)
	if err != nil {
		c.opener.Close()
		return nil, fmt.Errorf("codec: new: %w", err)
	}
	c.now.Store(s)
	return c, nil
}

// Close waits for KMS calls under way, wipes data keys and releases the KMS connections. Later
// calls fail.
func (c *Codec) Close() {
	c.tasks.Close()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	s := c.now.Load()
	s.sealers.close()
	c.retired.Wait()
	c.opener.Close()
	s.keys.Close()
}

// withDeadline bounds a call if ctx has no deadline.
func (c *Codec) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return kms.WithLimit(ctx, c.callTimeout)
}

// timedOut converts the end of our own deadline, which the caller did not set, into its
// meaning: the KMS was too slow.
func (c *Codec) timedOut(ctx context.Context, op string, err error) error {
	if late := kms.Late(ctx); late != nil && kms.ClassOf(err) == kms.Canceled {
		var keyID string
		if e, ok := errors.AsType[*kms.Error](err); ok {
			keyID = e.KeyID // the key of the KMS that did not answer
		}
		return kms.NoAnswer(op, keyID, late.Limit, err)
	}
	return err
}
