package guard

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
)

// onTheWire gives an error of ours the gRPC code that makes the SDK retry exactly if that may
// help.
func onTheWire(err error) error {
	if err == nil {
		return nil
	}
	if _, has := status.FromError(err); has {
		return err
	}
	code := codes.FailedPrecondition
	switch class := kms.ClassOf(err); {
	case class.Transient():
		code = codes.Unavailable
	case class == kms.Canceled && errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case class == kms.Canceled:
		code = codes.Canceled
	}
	return &wireError{status: status.New(code, err.Error()), cause: err}
}

// wireError is an error of ours in the form that gRPC needs. Only Waxseal reads its cause: the
// SDK reads the code.
type wireError struct {
	status *status.Status
	cause  error
}

func (e *wireError) Error() string { return e.status.Err().Error() }

// GRPCStatus is what package status reads.
func (e *wireError) GRPCStatus() *status.Status { return e.status }

func (e *wireError) Unwrap() error { return e.cause }

// refuseToSend returns the error for a request that is not sent, which the SDK does not retry.
// A caller gets only its text: class and hint are in it.
func refuseToSend(method string, class kms.Class, detail, hint string) error {
	return status.Errorf(codes.InvalidArgument, "waxseal: refused to send %s: %s: %s (%s)", method, class, detail, hint)
}
