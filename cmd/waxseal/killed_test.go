package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// The server of one of two KEKs is killed under load, with the vendors' own
// clients in between: no decode is lost, and sealing goes on or fails as the rule says.
func TestKilledServerLosesNoDecode(t *testing.T) {
	for _, victim := range []string{"aws", "gcp"} {
		t.Run(victim, func(t *testing.T) {
			aws, err := awsserver.Start(awsserver.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer aws.Close()
			key, err := aws.CreateKey(awsserver.KeySpec{})
			if err != nil {
				t.Fatal(err)
			}
			gcp, err := gcpserver.Start(t.Context(), "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer gcp.Close()
			const name = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
			if err := gcp.AddKey(name); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_ACCESS_KEY_ID", awsserver.DefaultAccessKeyID)
			t.Setenv("AWS_SECRET_ACCESS_KEY", awsserver.DefaultSecretAccessKey)
			uris := map[string]string{
				"aws": fmt.Sprintf("awskms:///%s?endpoint=%s&insecure-plain-http=true", key.ARN(), aws.URL()),
				"gcp": fmt.Sprintf("gcpkms://%s?endpoint=%s&insecure-plaintext=true", name, gcp.Addr()),
			}
			kill := map[string]func(){"aws": aws.Stop, "gcp": gcp.Close}[victim]
			second := map[string]string{"aws": "gcp", "gcp": "aws"}[victim]
			// Opening must turn away from the victim; sealing must not need it.
			yaml := func(first, second, recipients string) string {
				return fmt.Sprintf(`
keys: {first: {uri: %q}, second: {uri: %q}}
seal: [{match: {namespace: "*"}, keys: [first, second], recipients: %s}]
`, uris[first], uris[second], recipients)
			}
			open := func(yaml string) *codec.Codec {
				p, err := policy.Parse("test.yaml", []byte(yaml))
				if err != nil {
					t.Fatal(err)
				}
				c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: registry()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				return c
			}
			maker := open(yaml(victim, second, "all"))
			number := func(n int) *commonpb.Payload { return &commonpb.Payload{Data: fmt.Append(nil, n)} }
			seal := func(c *codec.Codec, namespace string, payloads ...*commonpb.Payload) []*commonpb.Payload {
				out, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: namespace}, payloads)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			const callers, each = 16, 20
			var sealed [callers][]*commonpb.Payload
			for i := range sealed {
				for j := range each {
					sealed[i] = append(sealed[i], number(j))
				}
				sealed[i] = seal(maker, "n", sealed[i]...)
			}
			reader, writer := open(yaml(victim, second, "all")), open(yaml(second, victim, "primary"))
			seal(writer, "n", number(0))

			var wg sync.WaitGroup
			var done atomic.Int64
			for i := range sealed {
				wg.Go(func() {
					for j, p := range sealed[i] {
						d := reader.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0]
						if d.Err != nil || !proto.Equal(d.Payload, number(j)) {
							t.Errorf("payload %d of %d: %v", j, i, d.Err)
						}
						if done.Add(1) == callers*each/4 {
							kill()
						}
						<-time.After(5 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			if ids := codec.KeyIDs(seal(writer, "other", number(0))[0]); len(ids) != 1 {
				t.Errorf("sealed under %v", ids)
			}
			if _, err = reader.Encode(t.Context(), codec.EncodeOptions{Namespace: "other"}, []*commonpb.Payload{number(0)}); err == nil || kms.ClassOf(err) != kms.Unavailable {
				t.Errorf("sealed without the first key: %v", err)
			}
		})
	}
}
