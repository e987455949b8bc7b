package awskms_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func mustRewrap(t testing.TB, key *awskms.Key, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) []kms.Wrapped {
	t.Helper()
	got, err := key.Rewrap(t.Context(), source, wrapped, ec)
	if err != nil || len(got) != len(wrapped) {
		t.Fatalf("Rewrap of %d: %d answers, %v", len(wrapped), len(got), err)
	}
	out := make([]kms.Wrapped, len(got))
	for i, r := range got {
		if r.Err != nil || string(r.Wrapped.Blob) == string(wrapped[i].Blob) {
			t.Fatalf("item %d: not wrapped anew: %v", i, r.Err)
		}
		out[i] = r.Wrapped
	}
	return out
}

// rewrapError returns the error that Rewrap has for one blob.
func rewrapError(t testing.TB, key *awskms.Key, source kms.Key, w kms.Wrapped, ec kms.Context) error {
	t.Helper()
	got, err := key.Rewrap(t.Context(), source, []kms.Wrapped{w}, ec)
	if err != nil {
		if got != nil {
			t.Error("Rewrap gave both an error and an answer")
		}
		return err
	}
	if len(got) != 1 || (got[0].Wrapped.Blob != nil) == (got[0].Err != nil) {
		t.Fatalf("Rewrap answered %d items, or both or neither of blob and error", len(got))
	}
	return got[0].Err
}

// front stands in front of a key, as decorators do.
type front struct{ kms.Key }

func (f front) Decorated() kms.Key { return f.Key }

func TestRewrap(t *testing.T) {
	s := startServer(t)
	from, _ := newKey(t, s)
	to, _ := newKey(t, s)
	ec := kms.Context{"namespace": "payments"}
	plain := dataKeys(100)
	wrapped := mustWrap(t, from, plain, ec)
	s.ResetRequests()
	moved := mustRewrap(t, to, front{from}, wrapped, ec)
	wantRequests(t, s, map[string]int{"ReEncrypt": 100}) // no data key came here
	mustUnwrap(t, to, moved, ec, plain)
	wantError(t, unwrapErrorUnder(t, from, moved[0], ec), kms.Corrupt, "")
	wantError(t, unwrapErrorUnder(t, to, moved[0], nil), kms.Corrupt, "")

	if got, err := to.Rewrap(t.Context(), from, nil, ec); err != nil || len(got) != 0 {
		t.Errorf("Rewrap of nothing: %d answers, %v", len(got), err)
	}
	// To itself: to the material that is current.
	mustUnwrap(t, from, mustRewrap(t, from, from, wrapped[:2], ec), ec, plain[:2])
}

func unwrapErrorUnder(t testing.TB, key kms.Key, w kms.Wrapped, ec kms.Context) error {
	t.Helper()
	got, err := key.Unwrap(t.Context(), []kms.Wrapped{w}, ec)
	if err != nil {
		return err
	}
	return got[0].Err
}

func TestRewrapsFrom(t *testing.T) {
	s, elsewhere := startServer(t), startServer(t)
	key, _ := newKey(t, s)
	sibling, _ := newKey(t, s)
	primary := createKey(t, s, awsserver.KeySpec{MultiRegion: true})
	replica, err := s.Replicate(primary, otherRegion)
	if err != nil {
		t.Fatal(err)
	}
	here, there := open(t, s, awskms.Config{Key: primary.ARN()}), open(t, s, awskms.Config{Key: replica.ARN()})
	farAway := open(t, s, awskms.Config{Key: createKey(t, s, awsserver.KeySpec{Region: otherRegion}).ARN()})
	atAnother, _ := newKey(t, elsewhere)
	abroad := createKey(t, s, awsserver.KeySpec{Account: "444455556666", Shared: true})
	neighbor := open(t, s, awskms.Config{Key: abroad.ARN()})
	var none *awskms.Key
	for _, tc := range []struct {
		name   string
		key    *awskms.Key
		source kms.Key
		want   bool
	}{
		{"itself", key, key, true},
		{"another key", key, sibling, true},
		{"a decorated key", key, front{front{sibling}}, true},
		{"a key of another account", key, neighbor, true},
		{"another replica", here, there, true},
		{"a primary elsewhere", there, here, true},
		{"another Region", key, farAway, false},
		{"a replica in another Region of another key", key, there, false},
		{"a replica in this Region", key, here, true},
		{"another endpoint", key, atAnother, false},
		{"another KMS", key, kmstest.NewFake("x"), false},
		{"nil", key, nil, false},
		{"a nil key", key, none, false},
	} {
		s.ResetRequests()
		if got := tc.key.RewrapsFrom(tc.source); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		wantRequests(t, s, map[string]int{})
		if !tc.want {
			got, err := tc.key.Rewrap(t.Context(), tc.source, []kms.Wrapped{{Blob: []byte("x")}}, nil)
			wantError(t, err, kms.Internal, "unwrap with the other key")
			if got != nil || !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %d answers, %v", tc.name, len(got), err)
			}
			wantRequests(t, s, map[string]int{})
		}
	}
	plain := dataKeys(1)
	mustUnwrap(t, there, mustRewrap(t, there, here, mustWrap(t, here, plain, nil), nil), nil, plain)
	mustUnwrap(t, key, mustRewrap(t, key, neighbor, mustWrap(t, neighbor, plain, nil), nil), nil, plain)
}

func TestRewrapRefused(t *testing.T) {
	s := startServer(t)
	from, madeFrom := newKey(t, s)
	to, madeTo := newKey(t, s)
	ec := kms.Context{"namespace": "payments"}
	w := mustWrap(t, from, dataKeys(1), ec)[0]

	wantError(t, rewrapError(t, to, from, w, nil), kms.Corrupt, "namespace")
	wantError(t, rewrapError(t, to, to, w, ec), kms.Corrupt, "the key")
	wantError(t, rewrapError(t, to, from, kms.Wrapped{}, ec), kms.Corrupt, "")
	wantError(t, rewrapError(t, to, from, kms.Wrapped{Blob: make([]byte, kms.MaxWrappedSize+1)}, ec), kms.Corrupt, "")
	wantError(t, rewrapError(t, to, from, w, kms.Context{"a": strings.Repeat("x", 1<<20)}), kms.Internal, "claims")
	wantError(t, rewrapError(t, to, from, w, kms.Context{"a": strings.Repeat("x", 9000)}), kms.Internal, "CloudTrail")

	for _, of := range []struct {
		key    *awsserver.Key
		action string
	}{{madeFrom, "kms:ReEncryptFrom"}, {madeTo, "kms:ReEncryptTo"}} {
		s.Deny(of.action, of.key)
		err := rewrapError(t, to, from, w, ec)
		wantError(t, err, kms.Denied, of.action)
		if !strings.Contains(err.Error(), madeFrom.ARN()) || !strings.Contains(err.Error(), madeTo.ARN()) {
			t.Errorf("the error does not name both keys: %v", err)
		}
		s.Undeny(of.action, of.key)
		of.key.SetState(awsserver.Disabled)
		wantError(t, rewrapError(t, to, from, w, ec), kms.Disabled, "enable-key")
		of.key.SetState(awsserver.Enabled)
	}
	for name, fault := range map[string]awsserver.Fault{
		"another key": {WrongKeyID: true}, "another source": {WrongSourceKeyID: true}, "no ciphertext": {EmptyCiphertext: true},
	} {
		s.Script("ReEncrypt", fault)
		wantError(t, rewrapError(t, to, from, w, ec), kms.Internal, "endpoint")
		_ = name
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := to.Rewrap(ctx, from, []kms.Wrapped{w}, ec)
	wantError(t, err, kms.Canceled, "")

	// Items that are bad harm no others; an outage of one neither.
	s.Script("ReEncrypt", awsserver.Outage())
	got, err := to.Rewrap(t.Context(), from, []kms.Wrapped{w, {}, w}, ec)
	if err != nil || len(got) != 3 || kms.ClassOf(got[1].Err) != kms.Corrupt || (got[0].Err == nil) == (got[2].Err == nil) {
		t.Errorf("%v, %v", got, err)
	}
	// A refusal that is about the key is not repeated for each item.
	s.ResetRequests()
	s.SetFault("ReEncrypt", awsserver.Throttle())
	many := make([]kms.Wrapped, 250)
	for i := range many {
		many[i] = w
	}
	_, err = to.Rewrap(t.Context(), from, many, ec)
	wantError(t, err, kms.Throttled, "")
	if n := s.Requests()["ReEncrypt"]; n > 2*parallel {
		t.Errorf("%d requests", n)
	}
	madeFrom.Delete()
	s.SetFault("ReEncrypt", awsserver.Fault{})
	wantError(t, rewrapError(t, to, from, w, ec), kms.NotFound, "deleted")

	// An identity that may open, and may not move.
	if err := s.SetIdentity(awsserver.Identity{AccessKeyID: "AKIABLIND", SecretAccessKey: "secret-access-key", Policy: blindWorker}); err != nil {
		t.Fatal(err)
	}
	worker := open(t, s, awskms.Config{Key: madeTo.ARN(), Credentials: credentials.NewStaticCredentialsProvider("AKIABLIND", "secret-access-key", "")})
	wantError(t, rewrapError(t, worker, worker, mustWrap(t, worker, dataKeys(1), nil)[0], nil), kms.Denied, "kms:ReEncryptFrom and kms:ReEncryptTo")
}
