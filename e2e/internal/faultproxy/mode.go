package faultproxy

import "time"

// Mode is what a Proxy does with requests.
type Mode uint8

const (
	// Healthy passes everything on.
	Healthy Mode = iota
	// Cut closes the port and resets all connections: the KMS is gone.
	Cut
	// Slow passes everything on after SlowBy.
	Slow
	// Flaky fails one request in five, at random: by turns with a status of 500, 502
	// or 503, and with a connection that is reset before the answer.
	Flaky
	// Throttled passes on one request every ThrottleTo and answers all others with 429.
	Throttled
)

const (
	// SlowBy is how late answers are when the KMS is Slow.
	SlowBy = 5 * time.Second
	// FlakyShare of requests fail when it is Flaky.
	FlakyShare = 0.2
	// ThrottleTo is the time between two requests that a Throttled KMS answers.
	ThrottleTo = time.Second
)

var modeNames = [...]string{Healthy: "healthy", Cut: "unreachable", Slow: "slow", Flaky: "flaky", Throttled: "throttled"}

// String returns the mode in one word.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}
