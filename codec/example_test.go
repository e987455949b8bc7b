package codec_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

// writePolicy writes a policy with a local keyring into a new directory.
func writePolicy() (file string, remove func()) {
	dir, err := os.MkdirTemp("", "waxseal")
	if err != nil {
		log.Fatal(err)
	}
	file = filepath.Join(dir, "waxseal.yaml")
	yaml := fmt.Sprintf(`
keys:
  dev: {uri: "local://%s#dev"}
seal:
  - match: {namespace: "*"}
    keys: [dev]
    sealHeaders: true
`, filepath.Join(dir, "keyring"))
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		log.Fatal(err)
	}
	return file, func() { _ = os.RemoveAll(dir) }
}

// The one line for a worker or client: the plugin in client.Options.
func ExampleNewPlugin() {
	file, remove := writePolicy()
	defer remove()
	c, err := codec.Open(context.Background(), file, kms.NewRegistry(localkms.Backend))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	cl, err := client.NewLazyClient(client.Options{Plugins: []client.Plugin{codec.NewPlugin(c)}})
	if err != nil {
		log.Fatal(err)
	}
	defer cl.Close()
	w := worker.New(cl, "orders", worker.Options{}) // covered by the client's plugin
	fmt.Println(w != nil)
	// Output: true
}

// A message with fewer payloads than values: without the option, the limit is zero.
func ExampleRefuseMissingArguments() {
	file, remove := writePolicy()
	defer remove()
	c, err := codec.Open(context.Background(), file, kms.NewRegistry(localkms.Backend))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	dc := codec.NewDataConverter(c, "default", nil, codec.RefuseMissingArguments(true)) // or codec.NewPlugin(c, …)
	input, err := dc.ToPayloads("card 4242")                                            // and the server dropped the limit
	if err != nil {
		log.Fatal(err)
	}
	var card string
	var limit int
	fmt.Println(kms.ClassOf(dc.FromPayloads(input, &card, &limit)))
	// Output: corrupt
}

// A program that composes its own converter can seal without the plugin, and without the wire
// guard.
func ExampleNewDataConverter() {
	file, remove := writePolicy()
	defer remove()
	c, err := codec.Open(context.Background(), file, kms.NewRegistry(localkms.Backend))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	dc := codec.NewDataConverter(c, "default", nil)
	options := client.Options{DataConverter: dc, FailureConverter: codec.NewFailureConverter(dc)}

	p, err := options.DataConverter.ToPayload("card 4242")
	if err != nil {
		log.Fatal(err)
	}
	var back string
	if err := options.DataConverter.FromPayload(p, &back); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %q\n", p.GetMetadata()[converter.MetadataEncoding], back)
	// Output: binary/waxseal "card 4242"
}

// Opening payloads as the codec server does.
func ExampleCodec_Decode() {
	file, remove := writePolicy()
	defer remove()
	ctx := context.Background()
	c, err := codec.Open(ctx, file, kms.NewRegistry(localkms.Backend))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	plain, err := converter.GetDefaultDataConverter().ToPayload("hi")
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := c.Encode(ctx, codec.EncodeOptions{Namespace: "payments"}, []*commonpb.Payload{plain})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range c.Decode(ctx, codec.DecodeOptions{}, sealed) {
		fmt.Printf("%s %s %v\n", d.Namespace, d.Payload.GetData(), d.Err)
	}
	d := c.Decode(ctx, codec.DecodeOptions{Namespace: "orders"}, sealed)[0]
	fmt.Println(kms.ClassOf(d.Err))
	// Output:
	// payments "hi" <nil>
	// denied
}

// Report payloads that lack a recipient, so that an operator can react.
func ExampleHooks() {
	p, err := policy.Parse("waxseal.yaml", []byte(`
keys:
  near: {uri: "fake://near"}
  recovery: {uri: "fake://recovery"}
seal:
  - match: {namespace: "*"}
    keys: [near, recovery]
    recipients: primary
`))
	if err != nil {
		log.Fatal(err)
	}
	backend := kmstest.NewBackend()
	c, err := codec.New(context.Background(), codec.Config{
		Policy: p, Registry: kms.NewRegistry(backend),
		Hooks: codec.Hooks{MissingRecipient: func(key string, class kms.Class, n int) {
			fmt.Printf("%d payloads without %s: %s\n", n, key, class)
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	backend.Fake("recovery").Disable()
	if _, err := c.Encode(context.Background(), codec.EncodeOptions{Namespace: "payments"}, []*commonpb.Payload{{Data: []byte("x")}}); err != nil {
		log.Fatal(err)
	}
	// Output: 1 payloads without recovery: disabled
}
