package gcpkms

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// refusal is what an answer of Cloud KMS's means.
type refusal = driver.Refusal

// call is what a request was for.
type call struct {
	op         string
	permission string // that IAM checks
	aside      *aside // what came with the answer
}

// fail makes the error of one operation.
func (k *Key) fail(op string, r refusal, cause error) *kms.Error { return r.Error(op, k.id, cause) }

func (k *Key) canceled(op string, cause error) *kms.Error { return driver.Canceled(op, k.id, cause) }

// deadlineSkew is how much earlier than the caller's deadline a server may report that it
// has passed: a request carries the time that is left.
const deadlineSkew = 100 * time.Millisecond

// refused says why a call failed, and whether that is about one item. ctx is the
// caller's own, callCtx the one that the call was made with.
func (k *Key) refused(ctx, callCtx context.Context, c call, err error) (failed *kms.Error, item bool) {
	st := status.Convert(err)
	if deadline, ok := ctx.Deadline(); ok && st.Code() == codes.DeadlineExceeded && time.Until(deadline) < deadlineSkew {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return k.canceled(c.op, ctx.Err()), false
	}
	if late := kms.Late(callCtx); late != nil {
		return k.fail(c.op, driver.Refuse(kms.Unavailable, k.endpoint+" gave "+late.Error(),
			"check Google Cloud's status and the network between"), err), false
	}
	why := k.reason(c, st)
	failed = k.fail(c.op, why, err)
	failed.RetryAfter = retryAfter(st, c.aside)
	return failed, why.Item
}

// noClient reports that the client could not be set up, for lack of credentials or by
// options of the program. It is no refusal of Google's: a file, or the metadata server, may
// be there in a moment.
func (k *Key) noClient(options bool, cause error) *kms.Error {
	advice := "set GOOGLE_APPLICATION_CREDENTIALS to a readable credentials file, run gcloud auth application-default login, " +
		"or run as a service account"
	if options {
		advice += "; or check the client options"
	}
	return k.fail(driver.OpOpen, driver.Refuse(kms.Unavailable, "there are no usable Google credentials", advice), cause)
}
