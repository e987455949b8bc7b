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
	c := &Codec{changes: named}
	c.now.Store(&snapshot{policy: policy.Default("fake://a")})
	g := &guard{codec: c, namespace: "n"}
	return g.check("Method", "n", req)
}
