package kmstest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
)

// recorder is a testing.TB that keeps failures to itself.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) record(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, s)
}
func (r *recorder) Helper()                        {}
func (r *recorder) Logf(string, ...any)            {}
func (r *recorder) Error(args ...any)              { r.record(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any)   { r.record(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatalf(f string, args ...any)   { r.record(fmt.Sprintf(f, args...)); r.exit() }
func (r *recorder) Fatal(args ...any)              { r.record(fmt.Sprint(args...)); r.exit() }
func (r *recorder) exit()                          { panic(errExit) }
func (r *recorder) check(c conformance, h Harness) { defer r.caught(); c.check(r, h) }
func (r *recorder) caught() {
	if p := recover(); p != nil && p != any(errExit) {
		panic(p)
	}
}

var errExit = errors.New("the recorded test is over")

// fakeHarness is the Fake, with all powers there are, as the suite sees it.
func fakeHarness() Harness {
	return harnessOf(scriptedFaults(), func(m *Managed) kms.Key { return m })
}

// scriptedFaults are the faults as a Fake has them.
func scriptedFaults() map[Power]Fault {
	return map[Power]Fault{
		FaultDenied: Fail(kms.Denied), FaultExpired: Fail(kms.Denied),
		FaultThrottled: Throttle(0), FaultThrottledFor: Throttle(ThrottledFor),
		FaultDown: Fail(kms.Unavailable), FaultServerError: Fail(kms.Unavailable), FaultReset: Fail(kms.Unavailable),
		FaultNotTheKMS: Fail(kms.Unavailable), FaultHugeAnswer: Fail(kms.Unavailable),
		FaultRequestDamaged: Fail(kms.Unavailable), FaultAnswerDamaged: Fail(kms.Unavailable),
		FaultWrongKey: Fail(kms.Internal), FaultShortPlaintext: Fail(kms.Corrupt), FaultStall: Stall(),
	}
}

// harnessOf is a harness of Fakes that suffer these faults, with handles made by handle.
func harnessOf(scripted map[Power]Fault, handle func(*Managed) kms.Key) Harness {
	var n atomic.Int64
	var faults sync.Map // *fakeKey → Power
	of := func(t testing.TB, k kms.Key) *Fake {
		t.Helper()
		f, ok := kms.As[interface{ fake() *Fake }](k)
		if !ok {
			t.Fatalf("no Fake: %T", k)
		}
		return f.fake()
	}
	open := func(f *Fake) kms.Key {
		f.Each(func(c Call) Fault {
			power, _ := faults.Load(f.key)
			if power == nil || power == FaultShortPlaintext && c.Op == OpWrap {
				return Healthy()
			}
			return scripted[power.(Power)]
		})
		return handle(f.Managed())
	}
	newKey := func(testing.TB) kms.Key { return open(NewFake(fmt.Sprintf("key-%d", n.Add(1)))) }
	h := Harness{
		NewKey: newKey, OtherKey: newKey,
		Reopen:           func(t testing.TB, k kms.Key) kms.Key { return open(of(t, k).Reopen()) },
		Hasty:            func(t testing.TB, k kms.Key) kms.Key { return hasty{open(of(t, k).Reopen()), kms.Unavailable} },
		Rotate:           func(t testing.TB, k kms.Key) { of(t, k).Rotate() },
		Disable:          func(t testing.TB, k kms.Key) { of(t, k).Disable() },
		Enable:           func(t testing.TB, k kms.Key) { of(t, k).Enable() },
		DisableVersion:   func(t testing.TB, k kms.Key, version string) { of(t, k).DisableVersion(version) },
		DestroyVersion:   func(t testing.TB, k kms.Key, version string) { of(t, k).DestroyVersion(version) },
		ScheduleDeletion: func(t testing.TB, k kms.Key) { of(t, k).ScheduleDeletion() },
		Faults:           map[Power]func(testing.TB, kms.Key) func(){},
		VersionTold:      true,
		Credentials:      []string{"the fake's own credential"},
	}
	for power := range scripted {
		h.Faults[power] = func(t testing.TB, k kms.Key) func() {
			faults.Store(of(t, k).key, power)
			return func() { faults.Delete(of(t, k).key) }
		}
	}
	return h
}

// hasty is a key with a timeout of its own, which has class.
type hasty struct {
	kms.Key
	class kms.Class
}

func (h hasty) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := h.Key.Wrap(ctx, dataKeys, ec)
	return out, h.timedOut("wrap", err)
}

func (h hasty) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := h.Key.Unwrap(ctx, wrapped, ec)
	return out, h.timedOut("unwrap", err)
}

func (h hasty) timedOut(op string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &kms.Error{Class: h.class, Op: op, KeyID: h.ID(), Detail: "no answer in time", Advice: "wait", Err: err}
	}
	return err
}

// broken is a Managed that breaks a promise.
type broken struct {
	*Managed
	id       func() string
	wrap     func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error)
	unwrap   func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error)
	rewraps  func(source kms.Key) bool
	rewrap   func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error)
	rotate   func(ctx context.Context) (kms.Version, error)
	versions func(ctx context.Context) ([]kms.Version, error)
	disable  func(ctx context.Context, version string) error
	enable   func(ctx context.Context, version string) error
	destroy  func(ctx context.Context, version string, wait time.Duration) (time.Time, error)
	restore  func(ctx context.Context, version string) error
	probe    func(ctx context.Context) (kms.Report, error)
}

func (b *broken) ID() string {
	if b.id != nil {
		return b.id()
	}
	return b.Managed.ID()
}

func (b *broken) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if b.wrap != nil {
		return b.wrap(ctx, dataKeys, ec)
	}
	return b.Managed.Wrap(ctx, dataKeys, ec)
}

func (b *broken) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if b.unwrap != nil {
		return b.unwrap(ctx, wrapped, ec)
	}
	return b.Managed.Unwrap(ctx, wrapped, ec)
}

func (b *broken) RewrapsFrom(source kms.Key) bool {
	if b.rewraps != nil {
		return b.rewraps(source)
	}
	return b.Managed.RewrapsFrom(source)
}

func (b *broken) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	if b.rewrap != nil {
		return b.rewrap(ctx, source, wrapped, ec)
	}
	return b.Managed.Rewrap(ctx, source, wrapped, ec)
}

func (b *broken) Rotate(ctx context.Context) (kms.Version, error) {
	if b.rotate != nil {
		return b.rotate(ctx)
	}
	return b.Managed.Rotate(ctx)
}

func (b *broken) Versions(ctx context.Context) ([]kms.Version, error) {
	if b.versions != nil {
		return b.versions(ctx)
	}
	return b.Managed.Versions(ctx)
}

func (b *broken) Disable(ctx context.Context, version string) error {
	if b.disable != nil {
		return b.disable(ctx, version)
	}
	return b.Managed.Disable(ctx, version)
}

func (b *broken) Enable(ctx context.Context, version string) error {
	if b.enable != nil {
		return b.enable(ctx, version)
	}
	return b.Managed.Enable(ctx, version)
}

func (b *broken) Destroy(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
	if b.destroy != nil {
		return b.destroy(ctx, version, wait)
	}
	return b.Managed.Destroy(ctx, version, wait)
}

func (b *broken) Restore(ctx context.Context, version string) error {
	if b.restore != nil {
		return b.restore(ctx, version)
	}
	return b.Managed.Restore(ctx, version)
}

func (b *broken) Probe(ctx context.Context) (kms.Report, error) {
	if b.probe != nil {
		return b.probe(ctx)
	}
	return b.Managed.Probe(ctx)
}

// brokenHarness gives out keys that breakKey has broken.
func brokenHarness(breakKey func(*broken)) Harness {
	return harnessOf(scriptedFaults(), func(m *Managed) kms.Key {
		b := &broken{Managed: m}
		breakKey(b)
		return b
	})
}

// with returns a harness of sound keys, changed.
func with(change func(h *Harness)) Harness {
	h := fakeHarness()
	change(&h)
	return h
}

// onItems changes what Unwrap answers, item by item.
func onItems(change func(b *broken, w kms.Wrapped, u *kms.Unwrapped)) func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			out, err := b.Fake.Unwrap(ctx, wrapped, ec)
			for i := range out {
				change(b, wrapped[i], &out[i])
			}
			return out, err
		}
	}
}

// onErrors changes the errors of single items.
func onErrors(change func(b *broken, w kms.Wrapped, e kms.Error) error) func(*broken) {
	return onItems(func(b *broken, w kms.Wrapped, u *kms.Unwrapped) {
		if e, ok := errors.AsType[*kms.Error](u.Err); ok {
			u.Err = change(b, w, *e)
		}
	})
}

// onBlobs changes the blobs that Unwrap gets.
func onBlobs(change func(blob []byte) []byte) func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			asked := slices.Clone(wrapped)
			for i := range asked {
				asked[i].Blob = change(asked[i].Blob)
			}
			return b.Fake.Unwrap(ctx, asked, ec)
		}
	}
}

// collides fails the second of two calls at one time, and waits for it to come.
func collides() func(*broken) {
	var calls atomic.Int64
	second := make(chan struct{})
	return func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			switch calls.Add(1) {
			case 1:
				<-second
			case 2:
				close(second)
				return nil, b.fail(OpWrap, Err(kms.Throttled))
			}
			return b.Fake.Wrap(ctx, dataKeys, ec)
		}
	}
}

// TestSuiteFindsBrokenKeys breaks each promise and wants the case to fail that
// is there for it.
func TestSuiteFindsBrokenKeys(t *testing.T) {
	tests := slices.Concat(basicSabotage(), sabotageOfFaults(), sabotageOfPowers())

	byName := map[string]conformance{}
	uncaught := map[string]bool{}
	for _, c := range conformanceCases() {
		if _, twice := byName[c.name]; twice {
			t.Errorf("two cases named %q", c.name)
		}
		byName[c.name], uncaught[c.name] = c, true
	}
	for _, tt := range tests {
		t.Run(tt.name+"/"+tt.caughtBy, func(t *testing.T) {
			c, ok := byName[tt.caughtBy]
			if !ok {
				t.Fatalf("no case %q", tt.caughtBy)
			}
			delete(uncaught, tt.caughtBy)
			r := &recorder{TB: t}
			r.check(c, tt.harness)
			if len(r.failures) == 0 {
				t.Errorf("the case %q does not find it", tt.caughtBy)
			}
			t.Log(r.failures)
		})
	}
	if len(uncaught) > 0 && !subtestsChosen() {
		t.Errorf("cases of which nothing shows that they can fail: %v", uncaught)
	}
}

// sharesKeys makes every key unwrap what any of them wrapped.
func sharesKeys() func(*broken) {
	var all []*Fake
	return func(b *broken) {
		all = append(all, b.Fake)
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			for _, f := range all {
				if out, err := f.Unwrap(ctx, wrapped, ec); err == nil && out[0].Err == nil {
					return out, nil
				}
			}
			return b.Fake.Unwrap(ctx, wrapped, ec)
		}
	}
}

func TestHarnessProblems(t *testing.T) {
	none := func(testing.TB, kms.Key) {}
	tests := []struct {
		name   string
		change func(*Harness)
		want   []string
	}{
		{"complete", func(*Harness) {}, nil},
		{"powers lacking with a reason", func(h *Harness) {
			h.OtherKey, h.Rotate, h.Disable, h.Enable = nil, nil, nil, nil
			delete(h.Faults, FaultWrongKey)
			h.Lacks = map[Power]string{PowerOther: "there is one", PowerRotate: "static key", PowerDisable: "static key", FaultWrongKey: "answers name none"}
		}, nil},
		{"powers of the key lacking with a reason", func(h *Harness) {
			h.NewKey = func(testing.TB) kms.Key { return NewFake("plain") }
			h.Lacks = map[Power]string{PowerRewrapper: "no such call", PowerRotator: "no such call", PowerRetirer: "no such call", PowerProber: "no such call"}
		}, nil},
		{"powers of the key not named", func(h *Harness) {
			h.NewKey = func(testing.TB) kms.Key { return NewFake("plain") }
		}, []string{
			"neither given nor named in Lacks: prober", "neither given nor named in Lacks: retirer", "neither given nor named in Lacks: rewrapper", "neither given nor named in Lacks: rotator",
		}},
		{"powers behind a decorator", func(h *Harness) {
			h.NewKey = func(testing.TB) kms.Key { return decorated{NewFake("behind").Managed()} }
		}, nil},
		{"a fault that is nil", func(h *Harness) { h.Faults[FaultReset] = nil }, []string{"neither given nor named in Lacks: reset"}},
		{"unknown fault", func(h *Harness) { h.Faults["meteor"] = h.Faults[FaultReset] }, []string{"Faults names an unknown fault: meteor"}},
		{"power among the faults", func(h *Harness) { h.Faults[PowerRotate] = h.Faults[FaultReset] }, []string{"Faults names an unknown fault: rotate"}},
		{"no reason", func(h *Harness) { h.Rotate = nil; h.Lacks = map[Power]string{PowerRotate: " "} }, []string{"Lacks gives no reason for rotate"}},
		{"lacking and there", func(h *Harness) { h.Lacks = map[Power]string{PowerRotate: "no", PowerProber: "no"} }, []string{
			"Lacks names a power that is there: prober", "Lacks names a power that is there: rotate",
		}},
		{"unknown power", func(h *Harness) { h.Lacks = map[Power]string{"flight": "no wings"} }, []string{"Lacks names an unknown power: flight"}},
		{"half a power", func(h *Harness) { h.Enable = nil }, []string{"Disable and Enable come together"}},
		{"other half", func(h *Harness) {
			h.Disable, h.Enable = nil, none
			h.Lacks = map[Power]string{PowerDisable: "half"}
		}, []string{"Disable and Enable come together"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := fakeHarness()
			tt.change(&h)
			if diff := cmp.Diff(tt.want, h.problems(t)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// Of an empty harness everything is said at once.
func TestEmptyHarness(t *testing.T) {
	want := []string{"NewKey is nil", "Reopen is nil"}
	for power := range (Harness{}).powers(nil) {
		want = append(want, "neither given nor named in Lacks: "+string(power))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, Harness{}.problems(t)); diff != "" || len(want) != 27 {
		t.Errorf("%d problems (-want +got):\n%s", len(want), diff)
	}
}

// decorated stands in front of another key.
type decorated struct{ behind kms.Key }

func (d decorated) ID() string         { return d.behind.ID() }
func (d decorated) Decorated() kms.Key { return d.behind }
func (d decorated) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	return d.behind.Wrap(ctx, dataKeys, ec)
}

func (d decorated) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	return d.behind.Unwrap(ctx, wrapped, ec)
}

// Each power that is lacking leaves out the cases that need it, and no other.
func TestCasesForPowers(t *testing.T) {
	all := conformanceCases()
	h := fakeHarness()
	if got := len(casesFor(h)); got != len(all) {
		t.Errorf("with every power %d of %d cases", got, len(all))
	}
	everything := map[Power]string{}
	for power := range h.powers(h.NewKey(t)) {
		needing := 0
		for _, c := range all {
			if slices.Contains(c.needs, power) {
				needing++
			}
		}
		h.Lacks = map[Power]string{power: "no"}
		if got := len(casesFor(h)); got != len(all)-needing || needing == 0 {
			t.Errorf("without %s %d of %d cases, and %d need it", power, got, len(all), needing)
		}
		everything[power] = "no"
	}
	h.Lacks = everything
	if got := len(casesFor(h)); got < 30 {
		t.Errorf("for a key without any power %d cases are left", got)
	}
	if len(all) < 75 {
		t.Errorf("the suite shrank to %d cases", len(all))
	}
	t.Logf("%d cases, %d of them for every key", len(all), len(casesFor(h)))
}

// What is searched for is the beginning of a secret. How that is written may
// depend on what comes next, as these show.
func TestRevealsWhateverTheBytes(t *testing.T) {
	tail := strings.Repeat("z", 17)
	for name, secret := range map[string]string{
		"two bytes cut in two":       "fourteen bytesé" + tail,
		"three bytes after one":      "fourteen bytes€" + tail,
		"four bytes after three":     "twelve bytes𝄞" + tail,
		"ends in a quote":            `fourteen bytes"` + tail,
		"begins with a quote":        `"fourteen bytes` + tail,
		"ends in a backslash":        `fourteen bytes\` + tail,
		"quotes":                     strings.Repeat(`"`, 32),
		"not UTF-8":                  strings.Repeat("\xff\xc3", 16),
		"the second half of a rune":  "\xa9thirteen byte" + tail,
		"three quarters of a rune":   "\x9d\x84\x9etwelve bytes" + tail,
		"control characters":         "\x00\x01\n\r\t\x7f\u0080\u2028" + tail,
		"begins with a cut sequence": "\xc3" + strings.Repeat("a", 31),
	} {
		t.Run(name, func(t *testing.T) {
			for how, text := range map[string]string{
				"raw":              secret,
				"%q":               fmt.Sprintf("%q", secret),
				"%q after another": fmt.Sprintf("%q", "\xc3"+secret),
				"%q of many":       fmt.Sprintf("%q", "\xf0"+secret),
				"%+q":              fmt.Sprintf("%+q", secret),
				"%x":               fmt.Sprintf("%x", secret),
			} {
				if reveals("x "+text+" y", []byte(secret)) == "" {
					t.Errorf("%s: not found in %s", how, text)
				}
			}
		})
	}
}

func TestReveals(t *testing.T) {
	secret := newDataKeys(1)[0]
	for name, text := range map[string]string{
		"raw":            "x" + string(secret),
		"quoted":         fmt.Sprintf("%q", secret),
		"upper-case hex": fmt.Sprintf("%X", secret),
		"base64":         base64.StdEncoding.EncodeToString(secret),
		"cut base64":     base64.RawURLEncoding.EncodeToString(secret)[:24],
		"%v":             fmt.Sprintf("%v", secret),
		"%#v":            fmt.Sprintf("%#v", secret),
	} {
		if reveals(text, secret) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	if how := reveals("kms: unwrap: corrupt", secret); how != "" {
		t.Errorf("found %s where it is not", how)
	}
	if how := reveals("kms: unwrap", []byte("unwrap")); how != "" {
		t.Errorf("a short text is taken for a secret %s", how)
	}
}
