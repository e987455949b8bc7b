package awskms_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

const (
	region      = awsserver.DefaultRegion
	otherRegion = "us-east-1"
)

// ownEnvironment is what the tester has set for AWS, for TestReal only.
var ownEnvironment = map[string]string{}

// restoreEnvironment gives a test the tester's own settings for AWS if it is to reach the
// real service.
func restoreEnvironment(t *testing.T) {
	t.Helper()
	if os.Getenv("WAXSEAL_TEST_AWS_KEY") == "" {
		return
	}
	for _, name := range isolation() {
		t.Setenv(name, "") // so that it comes back
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range ownEnvironment {
		t.Setenv(name, value)
	}
}

// isolation lists the variables that TestMain sets.
func isolation() []string {
	return []string{"AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
}

// TestMain takes away the tester's own settings for AWS, and every way to find
// credentials that leaves this machine.
func TestMain(m *testing.M) {
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			ownEnvironment[name] = value
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	none := filepath.Join(os.TempDir(), "waxseal-no-such-file")
	for name, value := range map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

func startServer(t testing.TB) *awsserver.Server {
	t.Helper()
	s, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func createKey(t testing.TB, s *awsserver.Server, spec awsserver.KeySpec) *awsserver.Key {
	t.Helper()
	k, err := s.CreateKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// root is an identity that may do everything.
func root() credentials.StaticCredentialsProvider {
	return credentials.NewStaticCredentialsProvider(awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, "")
}

// tryOpen opens a key of s as cfg says; endpoint and credentials have defaults.
func tryOpen(t testing.TB, s *awsserver.Server, cfg awskms.Config) (*awskms.Key, error) {
	t.Helper()
	if cfg.Endpoint == "" {
		cfg.Endpoint = s.URL()
	}
	if cfg.Credentials == nil {
		cfg.Credentials = root()
	}
	key, err := awskms.New(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() {
			if err := key.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	return key, err
}

func open(t testing.TB, s *awsserver.Server, cfg awskms.Config) *awskms.Key {
	t.Helper()
	key, err := tryOpen(t, s, cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return key
}

// newKey makes a key in s, opens it by its ARN, and forgets the requests for that.
func newKey(t testing.TB, s *awsserver.Server) (*awskms.Key, *awsserver.Key) {
	t.Helper()
	made := createKey(t, s, awsserver.KeySpec{})
	key := open(t, s, awskms.Config{Key: made.ARN()})
	s.ResetRequests()
	return key, made
}

func dataKeys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, kms.DataKeySize)
		rand.Read(out[i])
	}
	return out
}

func mustWrap(t testing.TB, key kms.Key, dataKeys [][]byte, ec kms.Context) []kms.Wrapped {
	t.Helper()
	wrapped, err := key.Wrap(t.Context(), dataKeys, ec)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	return wrapped
}

func mustUnwrap(t testing.TB, key kms.Key, wrapped []kms.Wrapped, ec kms.Context, want [][]byte) {
	t.Helper()
	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatalf("Unwrap: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("Unwrap of %d gave %d", len(want), len(got))
	}
	for i, u := range got {
		if u.Err != nil || !bytes.Equal(u.DataKey, want[i]) {
			t.Fatalf("item %d of %d: not the data key that was wrapped (error %v)", i, len(got), u.Err)
		}
	}
}

// unwrapError returns the error that Unwrap has for one blob.
func unwrapError(t testing.TB, key kms.Key, w kms.Wrapped) error {
	t.Helper()
	got, err := key.Unwrap(t.Context(), []kms.Wrapped{w}, nil)
	if err != nil {
		if got != nil {
			t.Error("Unwrap gave both an error and an answer")
		}
		return err
	}
	if len(got) != 1 || (got[0].DataKey != nil) == (got[0].Err != nil) {
		t.Fatalf("Unwrap answered %d items, or both or neither of data key and error", len(got))
	}
	return got[0].Err
}

// wantError checks class and hint of err.
func wantError(t testing.TB, err error, class kms.Class, hint string) {
	t.Helper()
	var e *kms.Error
	switch {
	case err == nil:
		t.Errorf("no error, want %v", class)
	case !errors.As(err, &e):
		t.Errorf("%T is not a *kms.Error: %v", err, err)
	case e.Class != class:
		t.Errorf("class %v, want %v: %v", e.Class, class, err)
	case !strings.Contains(e.Hint(), hint):
		t.Errorf("hint %q does not say %q (%v)", e.Hint(), hint, err)
	}
}

func wantRequests(t testing.TB, s *awsserver.Server, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, s.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	s.ResetRequests()
}
