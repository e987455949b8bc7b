package codec_test

import (
	"errors"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// TestTextsOfFailuresOpenOnlyAsTexts: an error may quote the server, which could hand out the
// envelope as an input.
func TestTextsOfFailuresOpenOnlyAsTexts(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	dc := codec.NewDataConverter(c, "n", nil)
	text := codec.NewFailureConverter(dc).ErrorToFailure(errors.New("rpc error: CANARY"))
	sealed := text.GetEncodedAttributes()
	var asStruct struct {
		Message string `json:"message"`
	}
	var asAny any
	for name, into := range map[string]any{"struct": &asStruct, "map": &map[string]any{}, "any": &asAny, "bytes": &[]byte{}, "raw value": &converter.RawValue{}} {
		for how, err := range map[string]error{
			"one":  dc.FromPayload(sealed, into),
			"many": dc.FromPayloads(&commonpb.Payloads{Payloads: []*commonpb.Payload{sealed}}, into),
		} {
			if err == nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s as a %s: %v", how, name, err)
				continue
			}
			wantClass(t, err, kms.Denied)
			wantHint(t, err)
		}
	}
	// The SDK's own failure converter, in a program without the plugin, reads it too.
	for name, failures := range map[string]converter.FailureConverter{
		"ours": codec.NewFailureConverter(dc), "the SDK's": temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc, EncodeCommonAttributes: true}),
	} {
		if err := failures.FailureToError(text); !strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s reads %v", name, err)
		}
	}
	// The same holds for texts that it seals, and for those from before the mark existed.
	old := encode(t, c, "n", payload(t, map[string]string{"message": "old"}))[0]
	text.EncodedAttributes = old
	if err := codec.NewFailureConverter(dc).FailureToError(text); !strings.Contains(err.Error(), "old") {
		t.Errorf("one without the mark: %v", err)
	}
}
