package codec_test

import (
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// During an outage, sealing continues with existing data keys for as long as the policy allows,
// and the metrics show it.
func TestSealGrace(t *testing.T) {
	for _, tc := range []struct {
		name, setting string
		grace         time.Duration
	}{
		{"by default", "", 15 * time.Minute},
		{"as the rule says", ", sealGrace: 2m", 2 * time.Minute},
		{"off", ", sealGrace: 0", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := kmstest.NewBackend()
				c, hooks := newWatchedCodec(t, `keys: {main: {uri: "fake://a"}}
seal:
  - {match: {namespace: "*"}, keys: [main], dataKey: {maxPayloads: 100, maxAge: 1m`+tc.setting+`}}
`, backend)
				all := &seen{}
				dialTo(t, c, ledger{all: all})
				in := []*commonpb.Payload{payload(t, "x")}
				encode(t, c, "n", in...)
				<-time.After(time.Minute)
				backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
				sealed := 0
				for ends := time.Now().Add(tc.grace); time.Now().Before(ends); sealed++ {
					encode(t, c, "n", in...)
					<-time.After(time.Minute)
				}
				if _, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, in); kms.ClassOf(err) != kms.Unavailable {
					t.Errorf("after %s: %v", tc.grace, err)
				}
				if want := int(tc.grace / time.Minute); sealed != want || all.ours()["waxseal_sealed_in_grace class=unavailable key=main"] != want ||
					hooks.count("grace main unavailable") != want {
					t.Errorf("%d payloads were sealed in grace, want %d; metrics: %v", sealed, want, all.ours())
				}
				c.Close()
			})
		})
	}
}
