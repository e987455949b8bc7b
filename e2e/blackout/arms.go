package blackout

import (
	"time"

	"github.com/waxseal/waxseal/e2e/internal/faultproxy"
)

// Size says how many workflows go through each kind of outage.
type Size struct {
	Main         int // through the one that is unreachable
	Others       int // through each of the others
	MainControl  int // with the plain codec
	OtherControl int
}

// flakyOrders is how many workflows go through the KMS that fails one request in five,
// at least: of the calls that fewer make, all might have an answer.
const flakyOrders = 40

// Arms returns all kinds of outage, each of the given length. They run one after the
// other: the test measures how soon workflows go on when their KMS is back, not how fast
// one machine replays those of five outages at once. after bounds how long workflows may
// take to end.
func Arms(outage, after time.Duration, size Size) []Arm {
	timing := func(ramp, settle time.Duration) Timing {
		return Timing{Ramp: ramp * time.Second, Settle: settle * time.Second, Outage: outage, Finish: after}
	}
	return []Arm{
		{Name: "blackout", Once: true, Mode: faultproxy.Cut, Timing: timing(30, 15), Orders: size.Main, Control: size.MainControl, MustHold: true, MustWait: true, MustLose: true},
		{Name: "killed", Mode: faultproxy.Cut, Timing: timing(20, 17), Orders: size.Others, Control: size.OtherControl, Kill: true, MustHold: true, MustLose: true},
		{Name: "slow", Once: true, Mode: faultproxy.Slow, Timing: timing(18, 14), Orders: size.Others, Control: size.OtherControl, MustHold: true, MustLose: true},
		{Name: "throttled", Once: true, Mode: faultproxy.Throttled, Timing: timing(15, 12), Orders: size.Others, Control: size.OtherControl, MustHold: true, MustLose: true},
		{Name: "flaky", Once: true, Mode: faultproxy.Flaky, Timing: timing(12, 10), Orders: max(size.Others, flakyOrders), Control: size.OtherControl, MustLose: true},
	}
}
