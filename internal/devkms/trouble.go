package devkms

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

const rehearseAdvice = "aws, gcp or all, then up, down, deny, stall, throttle, or slow with a duration: gcp slow 300ms"

// Trouble is what goes wrong with every request; the zero value is nothing.
type Trouble struct {
	kind troubleKind
	slow time.Duration // beyond the latency of every answer
}

// troubleKind is the kind of a Trouble.
type troubleKind uint8

const (
	healthy troubleKind = iota
	down
	denied
	stalled
	throttled
)

// GoWrong makes requests to aws, gcp or all meet a Trouble from now on.
func (d *Servers) GoWrong(which string, t Trouble) {
	if which != "gcp" {
		d.aws.SetFault(awskms.AllOperations, t.aws(d.latency))
	}
	if which != "aws" {
		d.gcp.ClearFaults()
		d.gcp.Inject(t.gcp(d.latency))
		if t.kind == down {
			d.gcp.DropConnections()
		}
	}
}

func (t Trouble) aws(latency time.Duration) awskms.Fault {
	f := awskms.Fault{}
	switch t.kind {
	case healthy:
	case down:
		return awskms.Fault{Reset: true}
	case denied:
		f = awskms.Fault{Code: "AccessDeniedException", Message: "rehearsed"}
	case stalled:
		f.Stall = true
	case throttled:
		f = awskms.Throttle()
	}
	f.Latency = latency + t.slow
	return f
}

func (t Trouble) gcp(latency time.Duration) gcpkms.Fault {
	f := gcpkms.Fault{Latency: latency + t.slow}
	switch t.kind {
	case healthy:
	case down:
		return gcpkms.Fault{Code: codes.Unavailable, Message: "rehearsed"}
	case denied:
		f.Code = codes.PermissionDenied
	case stalled:
		f.Stall = true
	case throttled:
		f.Code = codes.ResourceExhausted
	}
	return f
}

// ParseTrouble reads the words of one line of a rehearsal. Its error is an *Error.
func ParseTrouble(words []string) (which string, t Trouble, err error) {
	kinds := map[string]troubleKind{"up": healthy, "down": down, "deny": denied, "stall": stalled, "throttle": throttled}
	bad := func() (string, Trouble, error) {
		return "", Trouble{}, misused(rehearseAdvice, "%q is not understood", strings.Join(words, " "))
	}
	if len(words) < 2 || !slices.Contains([]string{"aws", "gcp", "all"}, words[0]) {
		return bad()
	}
	kind, known := kinds[words[1]]
	switch {
	case words[1] == "slow" && len(words) == 3:
		slow, err := time.ParseDuration(words[2])
		if err != nil || slow < 0 {
			return bad()
		}
		return words[0], Trouble{slow: slow}, nil
	case known && len(words) == 2:
		return words[0], Trouble{kind: kind}, nil
	}
	return bad()
}
