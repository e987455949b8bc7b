package notice

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.temporal.io/sdk/log"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
)

const (
	// interval is how often one refusal is logged.
	interval = time.Minute
	// maxKinds bounds the refusals that are remembered: a payload may name any key.
	maxKinds = 1000
)

// kind is what makes two refusals the same.
type kind struct {
	held  bool
	class kms.Class
	keyID string // or the reason, if it is about no key
}

// Log logs refusals, to slog.Default until To names a logger. The zero value is ready. It is safe for concurrent use.
type Log struct {
	to atomic.Pointer[log.Logger]

	mu     sync.Mutex
	logged *simplelru.LRU[kind, time.Time]
}

// To has what follows logged to logger, unless a logger was named before or logger is nil.
func (l *Log) To(logger log.Logger) {
	if logger != nil {
		l.to.CompareAndSwap(nil, &logger)
	}
}

// Write logs that a conversion failed because of err. held says that a workflow task is held
// for it: a warning, and otherwise an error. What a caller canceled is not logged.
func (l *Log) Write(err error, held bool) {
	about, _ := errors.AsType[*kms.Error](err)
	of := kind{held: held, class: kms.ClassOf(err)}
	reason := hold.PlainReason(err)
	if of.keyID = reason; about != nil {
		of.keyID = about.KeyID
	}
	if of.class == kms.Canceled || !l.due(of) {
		return
	}
	logger := log.Logger(log.NewStructuredLogger(slog.Default()))
	if to := l.to.Load(); to != nil {
		logger = *to
	}
	fields := []any{"class", of.class.String(), "reason", reason}
	if about != nil {
		fields = append(fields, "key", about.KeyID)
	}
	if held {
		logger.Warn("waxseal: a workflow waits until its payloads can be sealed and opened", fields...)
		return
	}
	logger.Error("waxseal: a payload cannot be sealed or opened", fields...)
}

// due reports whether a refusal is to be logged now.
func (l *Log) due(of kind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logged == nil {
		l.logged, _ = simplelru.NewLRU[kind, time.Time](maxKinds, nil) // it fails only for a size below one
	}
	now := time.Now()
	if before, ok := l.logged.Get(of); ok && now.Sub(before) < interval {
		return false
	}
	l.logged.Add(of, now)
	return true
}
