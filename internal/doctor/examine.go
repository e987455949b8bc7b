package doctor

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxSkew is how far clocks may differ without a word. AWS takes requests that
	// were signed up to five minutes ago.
	maxSkew = time.Minute
	// soon is how long credentials last at least that something renews: clients
	// renew theirs before. Backends warn of those that nothing renews.
	soon = 5 * time.Minute
	// slow is a latency that callers feel. A workflow task waits three seconds for
	// a KMS, over all attempts.
	slow = time.Second
)

// examination is one of a key.
type examination struct {
	cfg    Config
	key    Key
	result Result

	kek     kms.Key
	wrapped *Sample // what we wrapped ourselves
	opened  *Sample // what unwrapped
}

func (e *examination) run(ctx context.Context) Result {
	e.result = Result{Name: e.key.Name, Namespace: e.key.Namespace, URI: e.key.URI}
	if !e.open(ctx) {
		e.skip("it could not be opened", Reachable, Identity, Description, Wraps, Unwraps, Bound, Clock, Credentials, Latency)
		return e.result
	}
	defer e.close()
	report, answered := e.probe(ctx)
	if !answered {
		e.skip("the KMS cannot be reached", Identity, Description, Wraps, Unwraps, Bound, Clock, Credentials, Latency)
		return e.result
	}
	e.wrap(ctx)
	e.unwrap(ctx)
	e.otherContext(ctx)
	e.clock(report)
	e.credentials(report)
	e.latency(ctx)
	if report != nil {
		for _, warning := range report.Warnings {
			e.warn(Note, warning, "")
		}
	}
	return e.result
}

func (e *examination) note(c Check) { e.result.Checks = append(e.result.Checks, c) }

func (e *examination) pass(name, detail string) { e.note(Check{Name: name, Detail: detail}) }

func (e *examination) skip(why string, names ...string) {
	for _, name := range names {
		e.note(Check{Name: name, Status: Skip, Detail: "not tested: " + why})
	}
}

func (e *examination) warn(name, detail, hint string) {
	e.note(Check{Name: name, Status: Warn, Detail: detail, Hint: hint})
}

// fail notes a failure. during says what was done, if that is not plain.
func (e *examination) fail(name, during string, err error) {
	class := kms.ClassOf(err)
	c := Check{Name: name, Status: Fail, Detail: during + explain(err), Class: &class}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		c.Hint = h.Hint()
	}
	e.note(c)
}

// explain returns an error's class and detail: the check's name says where it happened.
func explain(err error) string {
	failed, ok := errors.AsType[*kms.Error](err)
	switch {
	case !ok:
		return fmt.Sprintf("a %T", err) // its text may be anything
	case failed.Detail == "":
		return failed.Class.String()
	}
	return failed.Class.String() + ": " + failed.Detail
}

func (e *examination) open(ctx context.Context) bool {
	err := e.ask(ctx, func(ctx context.Context) (err error) {
		e.kek, err = e.key.Open(ctx)
		return err
	})
	if err != nil {
		e.fail(Opens, "", err)
		return false
	}
	e.result.ID = e.kek.ID()
	e.pass(Opens, "recorded as "+e.result.ID)
	return true
}

func (e *examination) close() {
	if c, ok := e.kek.(kms.Closer); ok {
		_ = c.Close() // its error changes no result
	}
}

// probe probes the key, and reports whether the KMS answers. Keys that cannot be probed
// count as answering: wrapping shows it.
func (e *examination) probe(ctx context.Context) (*kms.Report, bool) {
	prober, ok := kms.As[kms.Prober](e.kek)
	if !ok {
		e.skip("keys of this kind tell nothing about themselves", Reachable, Identity, Description)
		return nil, true
	}
	var report kms.Report
	err := e.ask(ctx, func(ctx context.Context) (err error) {
		report, err = prober.Probe(ctx)
		return err
	})
	switch {
	case err != nil && (kms.ClassOf(err) == kms.Unavailable || kms.ClassOf(err) == kms.Canceled):
		e.fail(Reachable, "", err)
		return nil, false
	case err != nil:
		e.pass(Reachable, "it answers")
		e.told(Identity, report.Identity)
		e.fail(Description, "", err)
	default:
		e.pass(Reachable, "it answers")
		e.told(Identity, report.Identity)
		e.told(Description, report.Key)
	}
	return &report, true
}

// told notes a fact from a Prober's report.
func (e *examination) told(name, detail string) {
	if detail == "" {
		e.note(Check{Name: name, Status: Skip, Detail: "not known: there is no right to ask, or the KMS does not tell"})
		return
	}
	e.pass(name, detail)
}

// wrap wraps a data key of its own.
func (e *examination) wrap(ctx context.Context) {
	dataKey := make([]byte, kms.DataKeySize)
	rand.Read(dataKey) // never fails: crypto/rand ends the process instead
	wrapped, err := e.wrapOne(ctx, dataKey)
	if err != nil {
		if e.cfg.Role == CodecServer && kms.ClassOf(err) == kms.Denied {
			e.note(Check{Name: Wraps, Status: Skip, Detail: "it may not, as a codec server need not that only decodes"})
			return
		}
		e.fail(Wraps, "", err)
		return
	}
	e.wrapped = &Sample{
		KeyID: e.result.ID, Wrapped: wrapped, Context: e.key.Context,
		Right: func(got []byte) bool { return subtle.ConstantTimeCompare(got, dataKey) == 1 },
	}
	detail := fmt.Sprintf("32 bytes become %d", len(wrapped.Blob))
	if wrapped.Version != "" {
		detail += ", by version " + wrapped.Version
	}
	e.pass(Wraps, detail)
}

func (e *examination) wrapOne(ctx context.Context, dataKey []byte) (wrapped kms.Wrapped, err error) {
	err = e.ask(ctx, func(ctx context.Context) error {
		got, err := e.kek.Wrap(ctx, [][]byte{dataKey}, maps.Clone(e.key.Context))
		switch {
		case err != nil:
			return err
		case len(got) != 1 || len(got[0].Blob) == 0 || len(got[0].Blob) > kms.MaxWrappedSize:
			return odd("it answered with something else than one wrapped data key")
		}
		wrapped = got[0]
		return nil
	})
	return wrapped, err
}

// odd is an answer that no backend should let through.
func odd(detail string) error {
	return &kms.Error{Op: "examine", Detail: detail, Advice: "do not seal anything under this key; find out what stands in for the KMS, and report it if nothing does"}
}

// unwrapOne unwraps s under ec and gives the data key to see, then wipes it.
func (e *examination) unwrapOne(ctx context.Context, s *Sample, ec kms.Context, see func(dataKey []byte) error) error {
	return e.ask(ctx, func(ctx context.Context) error {
		got, err := e.kek.Unwrap(ctx, []kms.Wrapped{s.Wrapped}, maps.Clone(ec))
		for _, u := range got {
			defer clear(u.DataKey)
		}
		switch {
		case err != nil:
			return err
		case len(got) != 1:
			return odd("it answered with something else than one data key")
		case got[0].Err != nil:
			return got[0].Err
		}
		return see(got[0].DataKey)
	})
}

func right(s *Sample) func([]byte) error {
	return func(dataKey []byte) error {
		if len(dataKey) != kms.DataKeySize || !s.Right(dataKey) {
			return odd("it unwrapped to another data key than the one that was wrapped")
		}
		return nil
	}
}

// unwrap unwraps what was wrapped here, and the first sample of this key.
func (e *examination) unwrap(ctx context.Context) {
	var sample *Sample
	for i := range e.key.Samples {
		if e.key.Samples[i].KeyID == e.result.ID {
			sample = &e.key.Samples[i]
			break
		}
	}
	detail := ""
	if e.wrapped != nil {
		if err := e.unwrapOne(ctx, e.wrapped, e.wrapped.Context, right(e.wrapped)); err != nil {
			e.fail(Unwraps, "", err)
			return
		}
		e.opened, detail = e.wrapped, "to the same 32 bytes"
	}
	if sample != nil {
		if err := e.unwrapOne(ctx, sample, sample.Context, right(sample)); err != nil {
			e.fail(Unwraps, "the given payload: ", err)
			return
		}
		if detail != "" {
			detail += ", and "
		}
		e.opened, detail = sample, detail+"the given payload's data key"
	}
	switch {
	case e.opened != nil:
		e.pass(Unwraps, detail)
	case e.cfg.Role == CodecServer:
		e.warn(Unwraps, "not tested: it may not wrap, so there is nothing to unwrap", "give a payload that was sealed under this key (--payload)")
	default:
		e.skip("there is nothing to unwrap", Unwraps)
	}
}

// otherContext checks that what unwraps does not under another context.
func (e *examination) otherContext(ctx context.Context) {
	if e.opened == nil {
		e.skip("nothing was unwrapped", Bound)
		return
	}
	other := kms.Context{"waxseal": "doctor"}
	for name, value := range e.opened.Context {
		other[name] = value + "-of-the-doctor"
	}
	err := e.unwrapOne(ctx, e.opened, other, func([]byte) error { return nil })
	switch {
	case err == nil:
		e.note(Check{
			Name: Bound, Status: Fail, Detail: "IT UNWRAPS UNDER ANOTHER NAMESPACE: the encryption context is not enforced",
			Hint: "do not seal anything under this key: whoever may unwrap for one namespace can unwrap for all; check what stands in for the KMS",
		})
	case kms.ClassOf(err) == kms.Corrupt:
		e.pass(Bound, "it does not unwrap under another namespace")
	case kms.ClassOf(err) == kms.Denied:
		e.pass(Bound, "we may not unwrap under another namespace")
	default:
		e.fail(Bound, "", err)
	}
}

func (e *examination) clock(report *kms.Report) {
	if report == nil || !report.SkewKnown {
		e.note(Check{Name: Clock, Status: Skip, Detail: "not known"})
		return
	}
	off, way := report.Skew.Abs().Round(time.Second), "behind"
	if report.Skew > 0 {
		way = "ahead of"
	}
	switch {
	case off == 0:
		e.pass(Clock, "in step with ours")
	case off <= maxSkew:
		e.pass(Clock, off.String()+" "+way+" ours")
	default:
		e.warn(Clock, "the KMS's is "+off.String()+" "+way+" ours",
			"set this machine's clock (NTP): AWS refuses signatures that are five minutes off, and tokens seem expired, or not valid yet")
	}
}

func (e *examination) credentials(report *kms.Report) {
	if report == nil || report.Expires.IsZero() {
		e.note(Check{Name: Credentials, Status: Skip, Detail: "no end that is known"})
		return
	}
	left := time.Until(report.Expires)
	at := report.Expires.UTC().Format("2006-01-02 15:04 MST")
	switch {
	case left <= 0:
		e.note(Check{Name: Credentials, Status: Fail, Detail: "they ended at " + at, Hint: "renew them"})
	case left < soon:
		e.warn(Credentials, fmt.Sprintf("they end in %s, at %s, and nothing has renewed them yet", left.Round(time.Second), at),
			"see that something renews them: a role, a Vault agent, a login of Waxseal's own; workflows fail for good once they have ended")
	default:
		e.pass(Credentials, "they last until "+at+", and longer if something renews them")
	}
}
