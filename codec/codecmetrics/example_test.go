package codecmetrics_test

import (
	"context"
	"fmt"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/codec/codecmetrics"
	"github.com/waxseal/waxseal/httpapi"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/policy"
)

// The codec's metrics beside the codec server's, in one registry.
func ExampleNew() {
	registry := codecmetrics.NewRegistry()
	hooks, err := codecmetrics.New(registry)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := codec.New(context.Background(), codec.Config{
		Policy: policy.Default("fake://key"), Registry: kms.NewRegistry(kmstest.NewBackend()), Hooks: hooks,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, err = httpapi.New(httpapi.Config{Codec: c, Metrics: registry})
	fmt.Println(err)
	// Output: <nil>
}
