package awskms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxAnswer is the largest answer in bytes that is read. KMS's answer to
// DescribeKey may reach some KiB; all others are smaller.
const maxAnswer = 64 << 10

// targetRotate is what a request says that rotates a key.
const targetRotate = "TrentService.RotateKeyOnDemand"

// errExposed means that a request would cross a network unencrypted.
var errExposed = errors.New("awskms: data keys over an unencrypted network")

// transport is the SDK's HTTP client with bounds. It follows no redirect: AWS KMS sends
// none, and a request holds a data key. It reads answers up to maxAnswer. It holds
// endpoints from the environment to the rule about http:// of a Config.
type transport struct {
	client   *http.Client
	insecure bool
}

func newTransport(from aws.HTTPClient, insecure bool) *transport {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if b, ok := from.(*awshttp.BuildableClient); ok {
		client.Transport = b.GetTransport() // with the certificates of AWS_CA_BUNDLE
	}
	return &transport{client: client, insecure: insecure}
}

// Do implements aws.HTTPClient.
func (t *transport) Do(r *http.Request) (*http.Response, error) {
	if !t.insecure && driver.Exposed(r.URL) {
		return nil, errExposed
	}
	sent := new(driver.Body)
	if r.Body != nil {
		var err error
		sent, err = driver.ReadBody(r.Body, r.ContentLength)
		defer sent.Wipe()
		if err != nil {
			return nil, err
		}
	}
	answer, err := t.send(r, sent)
	if err != nil {
		return nil, err
	}
	answer.Body = driver.Bounded(answer.Body, maxAnswer)
	return answer, nil
}

// send makes one HTTP request: see driver.Send. To encrypt or decrypt twice does no harm.
// To rotate twice does, so a rotation is sent over a new connection, once.
func (t *transport) send(r *http.Request, body *driver.Body) (*http.Response, error) {
	rotates := r.Header.Get("X-Amz-Target") == targetRotate
	if rotates {
		t.client.CloseIdleConnections()
	}
	return driver.Send(r.Context(), t.client, rotates, func(ctx context.Context) (*http.Request, error) {
		next := r.Clone(ctx)
		next.Body = body.Reader()
		return next, nil
	})
}

// CloseIdleConnections closes the connections that no request uses.
func (t *transport) CloseIdleConnections() { t.client.CloseIdleConnections() }

// wipeSerialized makes the SDK's pipeline zero the request that it serialized, once it is
// done with it. The transport sends a copy, which it wipes itself.
func wipeSerialized(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("WaxsealWipe",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if request, ok := in.Request.(*smithyhttp.Request); ok {
				defer clear(underlying(request.GetStream()))
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.Before)
}

// underlying returns the bytes that r reads, where it lets them be seen, and
// leaves r at its start.
func underlying(r io.Reader) []byte {
	reader, ok := r.(*bytes.Reader)
	if !ok {
		return nil
	}
	var seen alias
	_, _ = reader.WriteTo(&seen) // alias takes all it is given
	reader.Reset(seen)
	return seen
}

// alias keeps the slice that is written to it.
type alias []byte

func (a *alias) Write(p []byte) (int, error) {
	*a = p
	return len(p), nil
}
