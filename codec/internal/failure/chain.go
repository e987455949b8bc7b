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
	// maxPendingFailure is how many bytes the failure of an activity may have that
	// is to be tried again; of a larger one the server keeps types and what is left
	// in plaintext (limit.mutableStateActivityFailureSize.error, by default).
	maxPendingFailure = 4096
	// maxStackTrace is how many bytes of a stack trace are kept where no such limit
	// applies: histories are read as a whole, over and over.
	maxStackTrace = 1536
	// maxCuts bounds how often a failure is sealed to find out how large it gets.
	// The second try fits where nothing is compressed.
	maxCuts = 4
)

// Text is the text of a link of a failure, in the form in which all SDKs encode it.
type Text struct {
	Message    string `json:"message"`
	StackTrace string `json:"stack_trace"`
}

// Chain is a failure and those of its links that are to be sealed, the
// outermost first.
type Chain struct {
	failure *failurepb.Failure
	links   []*openLink
}

// openLink is a link of a failure that is to be sealed.
type openLink struct {
	*failurepb.Failure

	text    Text  // what it says in full
	sealed  *Text // what its sealed form says; nil if it has none
	omitted bool  // it says nothing, since the one around it says it too
}

// New returns the chain of a failure, without links.
func New(f *failurepb.Failure) *Chain { return &Chain{failure: f} }

// ChainOf returns the chain of a failure. A link that is sealed already loses what
// the SDK's own conversion writes in plaintext beside it.
func ChainOf(failure *failurepb.Failure) *Chain {
	c := New(failure)
	for link := failure; link != nil; link = link.GetCause() {
		c.Add(link)
	}
	return c
}

// Add adds a link whose text is to be sealed.
func (c *Chain) Add(link *failurepb.Failure) {
	if link.GetEncodedAttributes() != nil {
		link.Message, link.StackTrace = Encoded, ""
		return
	}
	c.links = append(c.links, &openLink{Failure: link, text: Text{Message: link.GetMessage(), StackTrace: link.GetStackTrace()}})
}

// Withhold puts fixed messages in place of all that the links say.
func (c *Chain) Withhold(err error) {
	for _, link := range c.links {
		link.Message, link.StackTrace, link.EncodedAttributes = Unsealable(err), "", nil
	}
}

// SealOrWithhold seals the texts of the links, cut so that the failure has at most limit
// bytes if that is possible; limit 0 is none. If sealing fails, each link says why instead.
func (c *Chain) SealOrWithhold(dc converter.DataConverter, limit int) {
	if err := c.seal(dc, limit); err != nil {
		c.Withhold(err)
	}
}

// LimitOf returns how many bytes of what an activity failed with the server keeps,
// 0 if all of it: what is not retryable goes into the history as it is.
func LimitOf(f *failurepb.Failure) int {
	if f.GetApplicationFailureInfo().GetNonRetryable() {
		return 0
	}
	return maxPendingFailure
}

// seal seals what the links say, cut so that the failure has limit bytes at most,
// if it has a limit and can have them. On an error nothing is sealed.
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

// fit seals the links so that the failure has limit bytes at most, and reports
// whether there is nothing left to do. What sealing adds depends on rule, KMS and
// compression, so it is measured.
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

// room returns how many bytes the kept links may say in all, from what they say now.
// Where it is compressed, a byte less is less than a byte less, so each try asks for twice as much.
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

// omitRepeated leaves those links without a word whose message the one around them
// has too, as it is with errors of fmt.Errorf: each costs hundreds of bytes
// however little it says. The last one stays, which is the cause of it all, and so do
// those with details. It reports whether there were any.
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

// unlessSealed returns err if nothing is sealed yet. What is, is only too large.
func (c *Chain) unlessSealed(err error) error {
	if c.links[0].sealed != nil {
		return nil
	}
	return err
}

// write seals texts into links, all together; those that say so already are left as
// they are.
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

// sealEach returns one payload for each value. It asks for all in one call, and
// only of a converter that puts several values into one payload one by one.
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
