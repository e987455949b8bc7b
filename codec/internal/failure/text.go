package failure

import (
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

// The text of an error may quote the server: the error of an RPC, a workflow ID, the name of a
// query that the server made up. Sealed, it would be an envelope with content that the server
// chose, and the server could hand it out as an input. So the payload of a text carries a mark
// inside the envelope, and opens only as the text of a failure. Texts sealed before the mark
// existed open as before.

const (
	metadataKind = "waxseal"
	kindFailure  = "f" // short: the server keeps 4 KiB of a pending failure
)

// MarkTexts returns payloads, with the mark if values are texts of failures.
func MarkTexts(payloads []*commonpb.Payload, values ...any) []*commonpb.Payload {
	for _, v := range values {
		if _, text := v.(Text); !text {
			return payloads
		}
	}
	marked := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		marked[i] = proto.CloneOf(p)
		if p != nil {
			marked[i].Metadata[metadataKind] = []byte(kindFailure)
		}
	}
	return marked
}

// OnlyAsText refuses to open the text of a failure as anything else.
func OnlyAsText(opened []*commonpb.Payload, valuePtrs ...any) error {
	for _, p := range opened {
		if string(p.GetMetadata()[metadataKind]) != kindFailure {
			continue
		}
		for _, v := range valuePtrs {
			if !readsText(v) {
				return &kms.Error{
					Class: kms.Denied, Op: "open payload", Detail: "it holds the text of a failure, and is to be opened as something else",
					Advice: "it was sealed for another place, and the server or a program moved it",
				}
			}
		}
	}
	return nil
}

// readsText reports whether a value is a text of a failure: ours, or that of the SDK's failure
// converter, which has an unexported type.
func readsText(valuePtr any) bool {
	if _, ours := valuePtr.(*Text); ours {
		return true
	}
	t := reflect.TypeOf(valuePtr)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "go.temporal.io/sdk/converter" && t.Elem().Name() == "encodedFailure"
}
