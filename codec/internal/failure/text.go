package failure

import (
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/kms"
)

// The text of an error may quote the server: the error of an RPC, a workflow ID, the name
// of a query that it made up. Sealed, it would be an envelope with a content of the server's
// choice, to be handed out as an input. So the payload of a text carries a mark inside the
// envelope, and opens as the text of a failure alone. Texts sealed before there was the mark
// open as before.

const (
	metadataKind = "waxseal"
	kindFailure  = "f" // short: the server keeps 4 KiB of a pending failure
)

// MarkTexts returns payloads, marked if they hold texts of failures.
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

// readsText reports whether a text is opened into a value: ours, or the one of the SDK's
// failure converter, whose type is not exported.
func readsText(valuePtr any) bool {
	if _, ours := valuePtr.(*Text); ours {
		return true
	}
	t := reflect.TypeOf(valuePtr)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "go.temporal.io/sdk/converter" && t.Elem().Name() == "encodedFailure"
}
