package failure

import (
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxPendingFailure is the maximum size in bytes of the failure of an activity that will be
	// retried. Of a larger one the server keeps types and some of the plaintext
	// (limit.mutableStateActivityFailureSize.error, by default).
	maxPendingFailure = 4096
	// maxStackTrace is the maximum size in bytes of a stack trace where that limit does not
	// apply: histories are read as a whole, over and over.
	maxStackTrace = 1536
	// maxCuts bounds how often a failure is sealed to measure its size. Without compression the
	// second try fits.
	maxCuts = 4
)

// Text is the text of a link of a failure, in the form in which all SDKs encode it.
type Text struct {
	Message    string `json:"message"`
	StackTrace string `json:"stack_trace"`
}

// Chain is a failure and those of its links that are to be sealed, outermost first.
type Chain struct {
	failure *failurepb.Failure
	links   []*openLink
}

// openLink is a link of a failure that is to be sealed.
type openLink struct {
	*failurepb.Failure

	text    Text  // the full text
	sealed  *Text // the text in the sealed form; nil if not sealed yet
	omitted bool  // its text is left out, since the link around it repeats it
}

// New returns the chain of a failure, without links.
func New(f *failurepb.Failure) *Chain { return &Chain{failure: f} }

// ChainOf returns the chain of a failure. In a link that is already sealed it removes what the
// SDK's own conversion wrote in plaintext beside the envelope.
func ChainOf(failure *failurepb.Failure) *Chain {
	c := New(failure)
	for link := failure; link != nil; link = link.GetCause() {
		c.Add(link)
	}
	return c
}

// Add adds a link if its text is not sealed yet.
func (c *Chain) Add(link *failurepb.Failure) {
	if link.GetEncodedAttributes() != nil {
		link.Message, link.StackTrace = Encoded, ""
		return
	}
	c.links = append(c.links, &openLink{Failure: link, text: Text{Message: link.GetMessage(), StackTrace: link.GetStackTrace()}})
}

// Withhold replaces the texts of all links by fixed messages.
func (c *Chain) Withhold(err error) {
	for _, link := range c.links {
		link.Message, link.StackTrace, link.EncodedAttributes = Unsealable(err), "", nil
	}
}

// SealOrWithhold seals the texts of the links. It cuts them so that the failure has at most
// limit bytes if possible; limit 0 is none. If sealing fails, each link says why instead.
func (c *Chain) SealOrWithhold(dc converter.DataConverter, limit int) {
	if err := c.seal(dc, limit); err != nil {
		c.Withhold(err)
	}
}

// LimitOf returns how many bytes the server keeps of an activity's failure; 0 if all, because a
// failure that is not retryable goes into the history unchanged.
func LimitOf(f *failurepb.Failure) int {
	if f.GetApplicationFailureInfo().GetNonRetryable() {
		return 0
	}
	return maxPendingFailure
}

// seal seals the texts of the links. With a limit, it cuts them so that the failure has at most
// limit bytes if possible. On an error nothing is sealed.
func (c *Chain) seal(dc converter.DataConverter, limit int) error {
	if len(c.links) == 0 {
		return nil
	}
	if limit > 0 {
		if done, err := c.fit(dc, limit); done || err != nil {
			return err
		}
	}
	whole := textsOf(c.links)
	for i := range whole {
		whole[i].StackTrace = cut(whole[i].StackTrace, traceMark, maxStackTrace)
	}
	return c.unlessSealed(c.write(dc, c.links, whole))
}

// fit seals the links so that the failure has at most limit bytes, and reports whether nothing
// is left to do. The overhead of sealing depends on rule, KMS and compression, so fit measures
// it.
func (c *Chain) fit(dc converter.DataConverter, limit int) (done bool, err error) {
	room := limit
	for try := range maxCuts {
		links := c.kept()
		texts, fits := cutAll(textsOf(links), room)
		if !fits {
			if !c.omitRepeated() {
				return false, nil
			}
			if c.links[0].sealed != nil {
				room = c.room(limit, try)
			}
			continue
		}
		if err := c.write(dc, links, texts); err != nil {
			return true, c.unlessSealed(err)
		}
		if proto.Size(c.failure) <= limit {
			return true, nil
		}
		room = c.room(limit, try)
	}
	return false, nil
}

// room returns how many bytes the texts of the kept links may have in all, from their current
// size. With compression, cutting one byte saves less than one. So the cut is the excess,
// doubled at each later try.
func (c *Chain) room(limit, try int) (room int) {
	for _, link := range c.kept() {
		room += jsonSizes(*link.sealed)
	}
	over := proto.Size(c.failure) - limit
	if over > 0 {
		over <<= try
	}
	return room - over
}

func (c *Chain) kept() (out []*openLink) {
	for _, link := range c.links {
		if !link.omitted {
			out = append(out, link)
		}
	}
	return out
}

// omitRepeated leaves out the text of a link if the message of the link around it contains it,
// as with errors of fmt.Errorf: each envelope costs hundreds of bytes, however short the text.
// It keeps the last link, which is the root cause, and links with details. It reports whether
// it left any out.
func (c *Chain) omitRepeated() (some bool) {
	around := ""
	for i, link := range c.kept() {
		info := link.GetApplicationFailureInfo()
		if i > 0 && link.GetCause() != nil && info != nil && info.GetDetails() == nil && strings.Contains(around, link.text.Message) {
			link.omitted, link.sealed = true, nil
			link.Message, link.StackTrace, link.EncodedAttributes = "", "", nil
			some = true
			continue
		}
		around = link.text.Message
	}
	return some
}

// unlessSealed returns err if nothing is sealed yet. Otherwise the sealed failure is merely too
// large.
func (c *Chain) unlessSealed(err error) error {
	if c.links[0].sealed != nil {
		return nil
	}
	return err
}

// write seals texts into links, all together. It skips links that already hold the same text.
func (c *Chain) write(dc converter.DataConverter, links []*openLink, texts []Text) error {
	var changed []int
	var values []any
	for i, link := range links {
		if link.sealed == nil || *link.sealed != texts[i] {
			changed, values = append(changed, i), append(values, texts[i])
		}
	}
	payloads, err := sealEach(dc, values)
	if err != nil {
		return err
	}
	for n, i := range changed {
		link := links[i]
		link.Message, link.StackTrace, link.EncodedAttributes = Encoded, "", payloads[n]
		link.sealed = &texts[i]
	}
	return nil
}

func textsOf(links []*openLink) (out []Text) {
	for _, link := range links {
		out = append(out, link.text)
	}
	return out
}

// sealEach returns one payload for each value. It converts all values in one call, or one by
// one if the converter puts several values into one payload.
func sealEach(dc converter.DataConverter, values []any) ([]*commonpb.Payload, error) {
	if len(values) == 0 {
		return nil, nil
	}
	all, err := dc.ToPayloads(values...)
	if err != nil {
		return nil, err
	}
	out := all.GetPayloads()
	if len(out) != len(values) {
		out = make([]*commonpb.Payload, len(values))
		for i, value := range values {
			if out[i], err = dc.ToPayload(value); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range out {
		if p == nil {
			return nil, &kms.Error{Op: "seal failure", Detail: "the data converter makes no payload of a message"}
		}
	}
	return out, nil
}
