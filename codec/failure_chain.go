package codec

import (
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

// said is what a link of a failure says, in the form in which all SDKs encode it.
type said struct {
	Message    string `json:"message"`
	StackTrace string `json:"stack_trace"`
}

// failureChain is a failure and those of its links that are to be sealed.
type failureChain struct {
	failure *failurepb.Failure
	links   []*failurepb.Failure
	texts   []said // what the links say in full
	sealed  []said // what they say in their sealed form; nil before they have one
}

// add adds a link. One that is sealed loses what the SDK's own conversion writes
// in plaintext beside it.
func (c *failureChain) add(link *failurepb.Failure) {
	if link.GetEncodedAttributes() != nil {
		link.Message, link.StackTrace = encodedMessage, ""
		return
	}
	c.links = append(c.links, link)
	c.texts = append(c.texts, said{Message: link.GetMessage(), StackTrace: link.GetStackTrace()})
}

// withhold puts fixed messages in place of all that the links say.
func (c *failureChain) withhold(err error) {
	for _, link := range c.links {
		link.Message, link.StackTrace, link.EncodedAttributes = unsealable(err), "", nil
	}
}

// limitOf returns how many bytes of what an activity failed with the server keeps,
// 0 if all of it: what is not retryable goes into the history as it is.
func limitOf(f *failurepb.Failure) int {
	if f.GetApplicationFailureInfo().GetNonRetryable() {
		return 0
	}
	return maxPendingFailure
}

// seal seals what the links say, cut so that the failure has limit bytes at most,
// if it has a limit and can have them. On an error nothing is sealed.
func (c *failureChain) seal(dc converter.DataConverter, limit int) error {
	whole := make([]said, len(c.texts))
	for i, text := range c.texts {
		whole[i] = said{Message: text.Message, StackTrace: cut(text.StackTrace, traceMark, maxStackTrace)}
	}
	if limit == 0 {
		return c.write(dc, whole)
	}
	// What sealing adds depends on rule, KMS and compression, so it is measured.
	room := limit
	for try := range maxCuts {
		texts, fits := cutAll(c.texts, room)
		if !fits {
			break
		}
		if err := c.write(dc, texts); err != nil {
			return c.unlessSealed(err)
		}
		over := proto.Size(c.failure) - limit
		if over <= 0 {
			return nil
		}
		room = jsonSizes(texts) - over*(try+1) // compressed, a byte less is less than a byte less
	}
	return c.unlessSealed(c.write(dc, whole))
}

// unlessSealed returns err if nothing is sealed yet. What is, is only too large.
func (c *failureChain) unlessSealed(err error) error {
	if c.sealed != nil {
		return nil
	}
	return err
}

// write seals texts into the links, all together; those that say so already are
// left as they are.
func (c *failureChain) write(dc converter.DataConverter, texts []said) error {
	var links []*failurepb.Failure
	var values []any
	for i, link := range c.links {
		if c.sealed == nil || c.sealed[i] != texts[i] {
			links, values = append(links, link), append(values, texts[i])
		}
	}
	payloads, err := sealEach(dc, values)
	if err != nil {
		return err
	}
	for i, link := range links {
		link.Message, link.StackTrace, link.EncodedAttributes = encodedMessage, "", payloads[i]
	}
	c.sealed = texts
	return nil
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
