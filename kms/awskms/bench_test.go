package awskms_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// BenchmarkUnwrap100 opens 100 data keys at a latency of 5 ms, and reports how
// many round trips that took. 2 is the least that 50 at a time can do; the rest is
// the work of client and server, which share the machine.
func BenchmarkUnwrap100(b *testing.B) {
	const latency = 5 * time.Millisecond
	s := startServer(b)
	made, err := s.CreateKey(awsserver.KeySpec{})
	if err != nil {
		b.Fatal(err)
	}
	key, err := awskms.New(b.Context(), awskms.Config{
		Key: made.ARN(), Endpoint: s.URL(),
		Credentials: credentials.NewStaticCredentialsProvider(awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, ""),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer key.Close()
	wrapped := mustWrap(b, key, dataKeys(100), kms.Context{"namespace": "payments"})
	s.SetLatency(latency)
	for b.Loop() {
		if _, err := key.Unwrap(b.Context(), wrapped, kms.Context{"namespace": "payments"}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(latency), "round-trips/op")
}
