package codec

import (
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/policy"
)

// CheckOutgoing is what a guard without headers to seal says of a request.
func CheckOutgoing(req proto.Message) error {
	g := &guard{codec: &Codec{policy: policy.Default("fake://a")}, namespace: "n"}
	return g.check("Method", "n", req)
}
