package gcpkms

import (
	"context"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxAdminAnswer bounds an answer about keys in bytes: an HSM's attestation, or a page
// of versions.
const maxAdminAnswer = 4 << 20

// rpc is a method of Google's client.
type rpc[Q, A any] func(context.Context, Q, ...gax.CallOption) (A, error)

// aside is what an answer says besides itself.
type aside struct{ header, trailer metadata.MD }

// listen makes a call fill a in.
func (a *aside) listen(more ...grpc.CallOption) gax.CallOption {
	return gax.WithGRPCOptions(append(more, grpc.Header(&a.header), grpc.Trailer(&a.trailer))...)
}

// value returns the first value of a header or trailer, empty if there is none.
func (a *aside) value(name string) string {
	for _, md := range []metadata.MD{a.header, a.trailer} {
		if values := md.Get(name); len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// admin makes one call that is about the key rather than with it. permission is the one
// that IAM checks.
func admin[Q, A any](ctx context.Context, k *Key, op, permission string, method rpc[Q, A], req Q) (A, aside, error) {
	var with aside
	var none A
	if err := ctx.Err(); err != nil {
		return none, with, k.canceled(op, err)
	}
	callCtx, cancel := kms.WithLimit(ctx, k.timeout)
	defer cancel()
	answer, err := method(callCtx, req, with.listen(grpc.MaxCallRecvMsgSize(maxAdminAnswer)))
	if err != nil {
		failed, _ := k.refused(ctx, callCtx, call{op: op, permission: permission, aside: &with}, err)
		return none, with, failed
	}
	return answer, with, nil
}

// retryAfter is the pause that a status, or what came with it, demands; zero if none.
func retryAfter(st *status.Status, with *aside) time.Duration {
	wait := time.Duration(0)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.RetryDelay != nil {
			wait = info.RetryDelay.AsDuration()
		}
	}
	if wait <= 0 {
		return driver.RetryAfter(with.value("retry-after"), with.value("date"), time.Now())
	}
	return driver.BoundRetryAfter(wait)
}

// unsupported refuses what Cloud KMS does not have, in the way of kms.Rotator.
func (k *Key) unsupported(op, detail, advice string, cause error) *kms.Error {
	return k.fail(op, driver.Refuse(kms.Invalid, detail, advice), cause)
}
