package httpapi

import (
	"cmp"
	"reflect"
	"time"
)

// defaultLimits replace zero fields of Limits. Temporal's own limits set the scale: 2 MiB for a blob, 4 MiB for a gRPC
// message, which is 5.4 MiB in base64.
var defaultLimits = Limits{
	HeaderBytes: 64 << 10, BodyBytes: 32 << 20, ReplyBytes: 64 << 20, HeldBytes: 256 << 20,
	Payloads: 10_000, EncodePayloads: 1000, Sealing: 10_000, Entries: 64, Requests: 256, Connections: 1024,
	HeaderTime: 5 * time.Second, ReadTime: 30 * time.Second, CodecTime: 20 * time.Second, WriteTime: 60 * time.Second,
	IdleTime: 2 * time.Minute, DrainTime: 10 * time.Second,
}

// writeMargin is what a default WriteTime leaves for the writing itself.
const writeMargin = 10 * time.Second

// Limits bounds what requests may take. A zero field has its default.
//
// In memory, a request takes about four times its body: the JSON, the payloads in it, those that come out, and the JSON of
// the answer. Where many small or compressed payloads take more, the excess counts against HeldBytes too; for what is
// sealed, before sealing begins. So all requests together use less than 4 × HeldBytes. Go's heap grows to twice that unless
// GOGC or GOMEMLIMIT says otherwise. The server accepts a single request whatever it takes; the other limits bound it.
type Limits struct {
	// HeaderBytes bounds a request's header; net/http refuses longer ones with status 431. By default 64 KiB.
	HeaderBytes int
	// BodyBytes bounds a request's body. By default 32 MiB.
	BodyBytes int64
	// ReplyBytes bounds an answer's body, and what is opened for it: decompression can make it larger than the request's.
	// By default 64 MiB.
	ReplyBytes int64
	// HeldBytes bounds the request bodies in memory at one time, of all requests, and a quarter of what requests take
	// beyond four times their body. By default 256 MiB.
	HeldBytes int64
	// Payloads bounds the payloads in a request. By default 10,000.
	Payloads int
	// EncodePayloads bounds the payloads in an encode request further: each is a few bytes to send, and can cost a wrap by
	// each KMS key of its rule. Temporal's SDKs, command line and Web UI send the arguments of one call at a time. By
	// default 1000.
	EncodePayloads int
	// Sealing bounds the payloads of all encode requests in progress: at least EncodePayloads. By default 10,000 or
	// EncodePayloads, whichever is more.
	Sealing int
	// Entries bounds the metadata entries, and the external payloads, of one payload. By default 64.
	Entries int
	// Requests bounds the requests in progress. By default 256.
	Requests int
	// Connections bounds the open connections of one listener; more wait to be accepted. By default 1024.
	Connections int
	// HeaderTime bounds the reading of a request's header. By default 5 s.
	HeaderTime time.Duration
	// ReadTime bounds the reading of a whole request. By default 30 s.
	ReadTime time.Duration
	// CodecTime bounds the codec's work on a request. By default 20 s.
	CodecTime time.Duration
	// WriteTime bounds everything from a request's header to the end of the answer: at least ReadTime and CodecTime
	// together. By default 60 s, or these two and 10 s, whichever is more.
	WriteTime time.Duration
	// IdleTime bounds how long a connection waits for its next request. By default 2 min.
	IdleTime time.Duration
	// DrainTime bounds how long requests in progress go on after Serve was stopped. By default 10 s.
	DrainTime time.Duration
}

// withDefaults returns l with defaults filled in, and all that is wrong with it.
func (l Limits) withDefaults() (Limits, []string) {
	var problems []string
	defaults := defaultLimits
	defaults.Sealing = max(defaults.Sealing, l.EncodePayloads)
	defaults.WriteTime = max(defaults.WriteTime, cmp.Or(l.ReadTime, defaults.ReadTime)+cmp.Or(l.CodecTime, defaults.CodecTime)+writeMargin)
	for field, v := range reflect.ValueOf(&l).Elem().Fields() {
		switch n := v.Int(); {
		case n < 0:
			problems = append(problems, "Limits."+field.Name+" is negative")
		case n == 0:
			v.Set(reflect.ValueOf(defaults).FieldByIndex(field.Index))
		}
	}
	if l.WriteTime < l.ReadTime+l.CodecTime {
		problems = append(problems, "Limits.WriteTime is shorter than ReadTime and CodecTime together: answers would be cut off")
	}
	if l.HeldBytes < l.BodyBytes {
		problems = append(problems, "Limits.HeldBytes is smaller than BodyBytes: the largest body would never be let in")
	}
	if l.Sealing < l.EncodePayloads {
		problems = append(problems, "Limits.Sealing is smaller than EncodePayloads: the largest encode request would never be let in")
	}
	return l, problems
}
