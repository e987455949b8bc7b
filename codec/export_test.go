package codec

import (
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/policy"
)

// CheckOutgoing is what a guard without headers to seal says of a request.
func CheckOutgoing(req proto.Message) error {
	named, err := newChanges(nil)
	if err != nil {
		return err
	}
	g := &guard{codec: &Codec{policy: policy.Default("fake://a"), changes: named}, namespace: "n"}
	return g.check("Method", "n", req)
}
