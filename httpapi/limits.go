package httpapi

import "time"

// The defaults of Limits. Temporal's own limits set the scale: 2 MiB for a
// blob, 4 MiB for a gRPC message, which is 5.4 MiB in base64.
const (
	DefaultHeaderBytes    = 64 << 10
	DefaultBodyBytes      = 32 << 20
	DefaultReplyBytes     = 64 << 20
	DefaultHeldBytes      = 256 << 20
	DefaultPayloads       = 10_000
	DefaultEncodePayloads = 1_000
	DefaultSealing        = 10_000
	DefaultEntries        = 64
	DefaultRequests       = 256
	DefaultConnections    = 1024
	DefaultHeaderTime     = 5 * time.Second
	DefaultReadTime       = 30 * time.Second
	DefaultCodecTime      = 20 * time.Second
	DefaultWriteTime      = 60 * time.Second
	DefaultIdleTime       = 2 * time.Minute
	DefaultDrainTime      = 10 * time.Second
)

// writeMargin is what a default WriteTime leaves for the writing itself.
const writeMargin = 10 * time.Second

// MaxNamespace is the longest namespace in bytes: what an envelope can hold.
const MaxNamespace = 255

// Limits bounds what requests may take. A zero field has the Default of its name.
//
// In memory, a request takes about four times its body: the JSON, the payloads
// in it, those that come out, and the JSON of the answer. Where it takes more,
// because its payloads are many and small or were compressed, that counts against
// HeldBytes too, for what is sealed before sealing begins. So what all requests
// together keep in use stays below 4 × HeldBytes; Go's heap grows to twice what is in
// use unless GOGC or GOMEMLIMIT says otherwise. A single request is let in whatever it
// takes, and is bounded by the other limits.
type Limits struct {
	// HeaderBytes bounds a request's header. Longer ones get status 431 from net/http.
	HeaderBytes int
	// BodyBytes bounds a request's body.
	BodyBytes int64
	// ReplyBytes bounds an answer's body, and what is opened for it; decompression
	// can make it larger than the request's.
	ReplyBytes int64
	// HeldBytes bounds the request bodies in memory at one time, all requests
	// together, and a quarter of what requests take beyond four times their body.
	HeldBytes int64
	// Payloads bounds the payloads in a request.
	Payloads int
	// EncodePayloads bounds the payloads in an encode request further: each is a few
	// bytes to send, and can cost a wrap by each KMS key of its rule. Temporal's SDKs,
	// command line and Web UI send the arguments of one call at a time.
	EncodePayloads int
	// Sealing bounds the payloads of all encode requests in progress: at least
	// EncodePayloads.
	Sealing int
	// Entries bounds the metadata entries, and the external payloads, of one payload.
	Entries int
	// Requests bounds the requests in progress.
	Requests int
	// Connections bounds the open connections of one listener; more wait to be accepted.
	Connections int
	// HeaderTime bounds the reading of a request's header.
	HeaderTime time.Duration
	// ReadTime bounds the reading of a whole request.
	ReadTime time.Duration
	// CodecTime bounds the codec's work on a request.
	CodecTime time.Duration
	// WriteTime bounds everything from a request's header to the end of the
	// answer: at least ReadTime and CodecTime together.
	WriteTime time.Duration
	// IdleTime bounds how long a connection waits for its next request.
	IdleTime time.Duration
	// DrainTime bounds how long requests in progress may go on after Serve was told to stop.
	DrainTime time.Duration
}

// withDefaults returns l with defaults filled in, and all that is wrong with it.
func (l Limits) withDefaults() (Limits, []string) {
	var problems []string
	problems = append(problems, fill(&l.HeaderBytes, DefaultHeaderBytes, "HeaderBytes")...)
	problems = append(problems, fill(&l.BodyBytes, DefaultBodyBytes, "BodyBytes")...)
	problems = append(problems, fill(&l.ReplyBytes, DefaultReplyBytes, "ReplyBytes")...)
	problems = append(problems, fill(&l.HeldBytes, DefaultHeldBytes, "HeldBytes")...)
	problems = append(problems, fill(&l.Payloads, DefaultPayloads, "Payloads")...)
	problems = append(problems, fill(&l.EncodePayloads, DefaultEncodePayloads, "EncodePayloads")...)
	problems = append(problems, fill(&l.Sealing, max(DefaultSealing, l.EncodePayloads), "Sealing")...)
	problems = append(problems, fill(&l.Entries, DefaultEntries, "Entries")...)
	problems = append(problems, fill(&l.Requests, DefaultRequests, "Requests")...)
	problems = append(problems, fill(&l.Connections, DefaultConnections, "Connections")...)
	problems = append(problems, fill(&l.HeaderTime, DefaultHeaderTime, "HeaderTime")...)
	problems = append(problems, fill(&l.ReadTime, DefaultReadTime, "ReadTime")...)
	problems = append(problems, fill(&l.CodecTime, DefaultCodecTime, "CodecTime")...)
	problems = append(problems, fill(&l.WriteTime, max(DefaultWriteTime, l.ReadTime+l.CodecTime+writeMargin), "WriteTime")...)
	problems = append(problems, fill(&l.IdleTime, DefaultIdleTime, "IdleTime")...)
	problems = append(problems, fill(&l.DrainTime, DefaultDrainTime, "DrainTime")...)
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

// fill gives a limit its default if it is zero, and complains if it is negative.
func fill[T int | int64 | time.Duration](limit *T, def T, name string) []string {
	switch {
	case *limit < 0:
		return []string{"Limits." + name + " is negative"}
	case *limit == 0:
		*limit = def
	}
	return nil
}
