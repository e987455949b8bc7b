package payloadjson

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ErrText is Append's error for a metadata name that is not UTF-8: neither protobuf nor JSON can carry it.
var ErrText = errors.New("a metadata name is not valid UTF-8")

// ErrNil is Append's error for a nil payload.
var ErrNil = errors.New("a payload is nil")

// Size returns how many bytes Append will add for payloads, or a little more where names need escapes.
func Size(payloads []*commonpb.Payload) int {
	n := len(`{"payloads":[]}`)
	for _, payload := range payloads {
		n += len(`{"metadata":{},"data":"","externalPayloads":[]},`)
		for name, value := range payload.GetMetadata() {
			n += len(`"":"",`) + len(name) + base64.StdEncoding.EncodedLen(len(value))
		}
		n += base64.StdEncoding.EncodedLen(len(payload.GetData()))
		n += len(payload.GetExternalPayloads()) * len(`{"sizeBytes":"-9223372036854775808"},`)
	}
	return n
}

// Append appends payloads as the JSON of a Payloads message: always a list, also an empty one. As in protobuf, empty fields
// are left out. It fails with ErrNil or ErrText, which hold nothing of the payloads; what it appended is then useless.
func Append(dst []byte, payloads []*commonpb.Payload) ([]byte, error) {
	var err error
	dst = append(dst, `{"payloads":[`...)
	for i, payload := range payloads {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendPayload(dst, payload); err != nil {
			return dst, fmt.Errorf("payloadjson: write payload %d: %w", i, err)
		}
	}
	return append(dst, `]}`...), nil
}

func appendPayload(dst []byte, payload *commonpb.Payload) ([]byte, error) {
	if payload == nil {
		return dst, ErrNil
	}
	dst = append(dst, '{')
	first := len(dst)
	if metadata := payload.GetMetadata(); len(metadata) > 0 {
		dst = append(dst, `"metadata":{`...)
		names := slices.AppendSeq(make([]string, 0, len(metadata)), maps.Keys(metadata))
		slices.Sort(names)
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendString(dst, name); err != nil {
				return dst, err
			}
			dst = append(dst, ':', '"')
			dst = base64.StdEncoding.AppendEncode(dst, metadata[name])
			dst = append(dst, '"')
		}
		dst = append(dst, '}')
	}
	if data := payload.GetData(); len(data) > 0 {
		dst = separate(dst, first)
		dst = append(dst, `"data":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		dst = append(dst, '"')
	}
	if external := payload.GetExternalPayloads(); len(external) > 0 {
		dst = separate(dst, first)
		dst = append(dst, `"externalPayloads":[`...)
		for i, details := range external {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '{')
			// 64-bit integers are strings in protobuf's JSON: a double cannot hold them all.
			if size := details.GetSizeBytes(); size != 0 {
				dst = append(dst, `"sizeBytes":"`...)
				dst = strconv.AppendInt(dst, size, 10)
				dst = append(dst, '"')
			}
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

// separate appends a comma unless the object that began at first is still empty.
func separate(dst []byte, first int) []byte {
	if len(dst) > first {
		return append(dst, ',')
	}
	return dst
}

// appendString appends s as a JSON string in protojson's spelling.
func appendString(dst []byte, s string) ([]byte, error) {
	if plain([]byte(s)) && !strings.Contains(s, `"`) {
		return append(append(append(dst, '"'), s...), '"'), nil
	}
	quoted, err := protojson.Marshal(wrapperspb.String(s))
	if err != nil {
		return dst, ErrText // the cause would quote s
	}
	return append(dst, quoted...), nil
}
