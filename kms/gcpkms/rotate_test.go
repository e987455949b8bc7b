package gcpkms_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// addKey adds a key like the one that tests use, of another kind, and opens it.
func addKey(t *testing.T, s *gcpserver.Server, id string, spec *kmspb.CryptoKey) *gcpkms.Key {
	t.Helper()
	name := strings.Replace(keyName, "payments", id, 1)
	if err := s.AddKeyLike(name, spec); err != nil {
		t.Fatal(err)
	}
	return newKey(t, s, func(c *gcpkms.Config) { c.Name = name })
}

func asError(t *testing.T, err error) *kms.Error {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *kms.Error", err, err)
	}
	return e
}

// wantSays checks what wantError checks, for any key, and words of text and hint.
func wantSays(t *testing.T, err error, op string, class kms.Class, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok || e.Op != op || e.Class != class || e.KeyID == "" || e.Hint() == "" && class != kms.Canceled {
		t.Errorf("%s: %v (%T), want class %v with a hint", op, err, err, class)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+e.Hint(), w) {
			t.Errorf("%s: not said %q: %v\nhint: %s", op, w, err, e.Hint())
		}
	}
}

func TestRotate(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	old := newDataKeys(1)
	wrappedOld := mustWrap(t, key, old)
	before := time.Now().Add(-time.Second)
	v, err := key.Rotate(t.Context())
	if err != nil || v.ID != "2" || !v.Primary || v.State != kms.VersionEnabled || v.Created.Before(before) || !v.DestroyAt.IsZero() {
		t.Fatalf("%+v, error %v", v, err)
	}
	if got := mustWrap(t, key, newDataKeys(1))[0].Version; got != "2" {
		t.Errorf("wraps under version %s", got)
	}
	mustUnwrap(t, key, wrappedOld, old)

	if err := key.MakePrimary(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if got := mustWrap(t, key, newDataKeys(1))[0].Version; got != "1" {
		t.Errorf("back to version 1, wraps under %s", got)
	}
}

// A version that takes time to make is waited for, as long as the caller does.
func TestRotateWaits(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	s.SetGenerationTime(150 * time.Millisecond)
	v, err := key.Rotate(t.Context())
	if err != nil || v.ID != "2" || v.State != kms.VersionEnabled {
		t.Fatalf("%+v, error %v", v, err)
	}
	if got := mustWrap(t, key, newDataKeys(1))[0].Version; got != "2" {
		t.Errorf("wraps under version %s", got)
	}

	s.SetGenerationTime(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = key.Rotate(ctx)
	wantSays(t, err, "rotate", kms.Canceled, "version 3 was made", "gcloud kms keys update --primary-version=3 payments --keyring=waxseal --location=europe-west3 --project=acme-prod")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is not context.DeadlineExceeded", err)
	}
	if got := mustWrap(t, key, newDataKeys(1))[0].Version; got != "2" {
		t.Errorf("wraps under version %s", got)
	}
	wantSays(t, key.MakePrimary(t.Context(), "3"), "make primary", kms.Disabled, "still being made", "wait until it is enabled")
	if err := s.SetState(keyName, 3, kmspb.CryptoKeyVersion_ENABLED); err != nil {
		t.Fatal(err)
	}
	if err := key.MakePrimary(t.Context(), "3"); err != nil {
		t.Error(err)
	}
}

// The error names a version that was not completed.
func TestRotateGenerationFails(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	s.SetGenerationTime(time.Hour)
	done := make(chan error, 1)
	go func() {
		_, err := key.Rotate(t.Context())
		done <- err
	}()
	for s.SetState(keyName, 2, kmspb.CryptoKeyVersion_GENERATION_FAILED) != nil { // until it is there
		runtime.Gosched()
	}
	wantSays(t, <-done, "rotate", kms.Disabled, "version 2 was made", "could not be made", "versions describe")
}

// What goes wrong half-way names the version that was made.
func TestRotateHalfway(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	for _, tc := range []struct {
		name    string
		fault   gcpserver.Fault
		class   kms.Class
		version string // in the error; empty if none was made
	}{
		{"describe fails", gcpserver.Fault{Method: "GetCryptoKey", Code: codes.Unavailable, Message: canary}, kms.Unavailable, ""},
		{"create fails", gcpserver.Fault{Method: "CreateCryptoKeyVersion", Code: codes.Internal, Message: canary}, kms.Unavailable, ""},
		{"create is throttled", gcpserver.Fault{Method: "CreateCryptoKeyVersion", Code: codes.ResourceExhausted, Message: canary}, kms.Throttled, ""},
		{"waiting fails", gcpserver.Fault{Method: "GetCryptoKeyVersion", Code: codes.Unavailable, Message: canary}, kms.Unavailable, "2"},
		{"primary fails", gcpserver.Fault{Method: "UpdateCryptoKeyPrimaryVersion", Code: codes.Aborted, Message: canary}, kms.Unavailable, "3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.SetGenerationTime(0)
			if tc.fault.Method == "GetCryptoKeyVersion" {
				s.SetGenerationTime(time.Hour)
			}
			s.ResetCalls()
			tc.fault.Times = 1
			s.Inject(tc.fault)
			defer s.ClearFaults()
			_, err := key.Rotate(t.Context())
			wantSays(t, err, "rotate", tc.class)
			wantNoCanary(t, err)
			if tc.version != "" {
				wantSays(t, err, "rotate", tc.class, "version "+tc.version+" was made", "--primary-version="+tc.version)
			}
			if n := s.Calls(tc.fault.Method); n != 1 {
				t.Errorf("%d requests: something retries", n)
			}
		})
	}
	if got := mustWrap(t, key, newDataKeys(1))[0].Version; got != "1" {
		t.Errorf("wraps under version %s", got)
	}
}

// Keys with versions that Cloud KMS does not make by itself are refused before anything is
// made.
func TestRotateRefuses(t *testing.T) {
	s := startServer(t)
	level := func(l kmspb.ProtectionLevel) *kmspb.CryptoKeyVersionTemplate {
		return &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: l}
	}
	encryption := kmspb.CryptoKey_ENCRYPT_DECRYPT
	for _, tc := range []struct {
		id          string
		spec        *kmspb.CryptoKey
		unsupported bool
		words       []string
	}{
		{"external", &kmspb.CryptoKey{Purpose: encryption, VersionTemplate: level(kmspb.ProtectionLevel_EXTERNAL)}, true, []string{"external key manager", "--external-key-uri"}},
		{"vpc", &kmspb.CryptoKey{Purpose: encryption, VersionTemplate: level(kmspb.ProtectionLevel_EXTERNAL_VPC)}, true, []string{"external key manager", "--ekm-connection-key-path"}},
		{"imported", &kmspb.CryptoKey{Purpose: encryption, ImportOnly: true}, true, []string{"imported versions only", "gcloud kms keys versions import"}},
		{"mac", &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_MAC, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_HMAC_SHA256}}, false, []string{"wrong kind", "--purpose=encryption"}},
	} {
		t.Run(tc.id, func(t *testing.T) {
			key := addKey(t, s, tc.id, tc.spec)
			_, err := key.Rotate(t.Context())
			wantSays(t, err, "rotate", kms.Invalid, tc.words...)
			if got := errors.Is(err, errors.ErrUnsupported); got != tc.unsupported {
				t.Errorf("errors.ErrUnsupported: %v", got)
			}
			versions, err := key.Versions(t.Context())
			if err != nil || len(versions) != 1 {
				t.Errorf("versions %v, error %v", versions, err)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	const n = 1234 // several pages, and numbers of different lengths
	for range n - 1 {
		if _, err := s.Rotate(keyName); err != nil {
			t.Fatal(err)
		}
	}
	for number, state := range map[int]kmspb.CryptoKeyVersion_CryptoKeyVersionState{
		2: kmspb.CryptoKeyVersion_DISABLED, 3: kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, 4: kmspb.CryptoKeyVersion_DESTROYED,
		5: kmspb.CryptoKeyVersion_PENDING_GENERATION, 6: kmspb.CryptoKeyVersion_IMPORT_FAILED, 7: kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION,
	} {
		if err := s.SetState(keyName, number, state); err != nil {
			t.Fatal(err)
		}
	}
	versions, err := key.Versions(t.Context())
	if err != nil || len(versions) != n {
		t.Fatalf("%d versions, error %v", len(versions), err)
	}
	want := map[string]kms.VersionState{
		"1": kms.VersionEnabled, "2": kms.VersionDisabled, "3": kms.VersionPendingDestruction, "4": kms.VersionDestroyed,
		"5": kms.VersionUnavailable, "6": kms.VersionUnavailable, "7": kms.VersionDestroyed, "1234": kms.VersionEnabled,
	}
	for i, v := range versions {
		if v.Primary != (i == n-1) || v.Created.IsZero() || v.Created.Location() != time.UTC || v.DestroyAt.IsZero() != (v.State != kms.VersionPendingDestruction) {
			t.Errorf("version %d: %+v", i+1, v)
		}
		if state, ok := want[v.ID]; ok && v.State != state {
			t.Errorf("version %s is %v, want %v", v.ID, v.State, state)
		}
		delete(want, v.ID)
	}
	if len(want) > 0 || versions[9].ID != "10" || versions[999].ID != "1000" {
		t.Errorf("not in order, or missing: %v", want)
	}
	s.Inject(gcpserver.Fault{Method: "ListCryptoKeyVersions", Code: codes.Unavailable})
	if got, err := key.Versions(t.Context()); kms.ClassOf(err) != kms.Unavailable || got != nil {
		t.Errorf("%d versions, error %v", len(got), err)
	}
}

// A version's whole life, by its states and by what opens.
func TestLifecycle(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	ctx := t.Context()
	old := newDataKeys(1)
	wrapped := mustWrap(t, key, old)
	if _, err := key.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	state := func(want kms.VersionState, opens kms.Class) {
		t.Helper()
		versions, err := key.Versions(ctx)
		if err != nil || versions[0].State != want {
			t.Fatalf("%v, error %v, want %v", versions, err, want)
		}
		if opens == kms.Canceled {
			mustUnwrap(t, key, wrapped, old)
			return
		}
		wantError(t, unwrapError(ctx, t, key, wrapped[0]), "unwrap", opens)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	state(kms.VersionEnabled, kms.Canceled)
	_, err := key.Destroy(ctx, "1", 0)
	wantSays(t, err, "destroy", kms.Invalid, "version 1 is enabled", "disable it first")
	wantSays(t, key.Restore(ctx, "1"), "restore", kms.Disabled)

	must(key.Disable(ctx, "1"))
	must(key.Disable(ctx, "1")) // twice is once
	state(kms.VersionDisabled, kms.Disabled)
	wantSays(t, key.MakePrimary(ctx, "1"), "make primary", kms.Disabled, "is disabled", "gcloud kms keys versions enable")
	must(key.Enable(ctx, "1"))
	state(kms.VersionEnabled, kms.Canceled)

	must(key.Disable(ctx, "1"))
	_, err = key.Destroy(ctx, "1", time.Hour)
	wantSays(t, err, "destroy", kms.Invalid, "how long to wait", "destroyScheduledDuration")
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v is not errors.ErrUnsupported", err)
	}
	at, err := key.Destroy(ctx, "1", 0)
	if in := time.Until(at); err != nil || in < 29*24*time.Hour || in > 31*24*time.Hour || at.Location() != time.UTC {
		t.Fatalf("to be destroyed at %v, error %v", at, err)
	}
	state(kms.VersionPendingDestruction, kms.Disabled)
	_, err = key.Destroy(ctx, "1", 0)
	wantSays(t, err, "destroy", kms.Disabled, "scheduled for destruction", "restore")
	wantSays(t, key.Enable(ctx, "1"), "enable", kms.Disabled)
	must(key.Restore(ctx, "1"))
	state(kms.VersionDisabled, kms.Disabled)
	must(key.Enable(ctx, "1"))
	state(kms.VersionEnabled, kms.Canceled)

	must(s.SetState(keyName, 1, kmspb.CryptoKeyVersion_DESTROYED))
	state(kms.VersionDestroyed, kms.NotFound)
	_, err = key.Destroy(ctx, "1", 0)
	wantSays(t, err, "destroy", kms.NotFound, "was destroyed")
	wantSays(t, key.MakePrimary(ctx, "1"), "make primary", kms.NotFound, "was destroyed")

	// Disabling the primary is allowed, and ends sealing until another takes over.
	must(key.Disable(ctx, "2"))
	_, err = key.Wrap(ctx, old, ec)
	wantSays(t, err, "wrap", kms.Disabled, "is disabled", "make an enabled version primary")
}

// A key that was made without any delay destroys at once.
func TestDestroyWithoutDelay(t *testing.T) {
	s := startServer(t)
	key := addKey(t, s, "brief", &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, DestroyScheduledDuration: durationpb.New(0)})
	if err := key.Disable(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	at, err := key.Destroy(t.Context(), "1", 0)
	if ago := time.Since(at); err != nil || ago < -time.Minute || ago > time.Minute {
		t.Errorf("destroyed at %v, error %v", at, err)
	}
}

// admins calls each administrative operation on a version.
func admins(key *gcpkms.Key) map[string]func(context.Context, string) error {
	return map[string]func(context.Context, string) error{
		"disable":      key.Disable,
		"enable":       key.Enable,
		"destroy":      func(ctx context.Context, v string) error { _, err := key.Destroy(ctx, v, 0); return err },
		"restore":      key.Restore,
		"make primary": key.MakePrimary,
	}
}

func TestVersionArguments(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	for op, do := range admins(key) {
		s.ResetCalls()
		err := do(t.Context(), "")
		wantSays(t, err, op, kms.Invalid, "not to a whole key", "take the roles on it away")
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v is not errors.ErrUnsupported", op, err)
		}
		for _, bad := range []string{"0", "01", "-1", "latest", "1/../2", "1 ", "12345678901"} {
			wantSays(t, do(t.Context(), bad), op, kms.NotFound, "is not a version", "versions are numbers")
		}
		if n := s.Calls(""); n != 0 {
			t.Errorf("%s: %d requests for nonsense", op, n)
		}
		wantSays(t, do(t.Context(), "9"), op, kms.NotFound, "there is no such version", "gcloud kms keys versions list --key=payments --keyring=waxseal")
	}
}

// Each operation fails by its own name, without what the server said.
func TestAdminErrors(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	all := admins(key)
	all["rotate"] = func(ctx context.Context, _ string) error { _, err := key.Rotate(ctx); return err }
	all["list versions"] = func(ctx context.Context, _ string) error { _, err := key.Versions(ctx); return err }
	all["probe"] = func(ctx context.Context, _ string) error { _, err := key.Probe(ctx); return err }
	for op, do := range all {
		for _, tc := range []struct {
			code  codes.Code
			class kms.Class
		}{
			{codes.Unavailable, kms.Unavailable},
			{codes.ResourceExhausted, kms.Throttled},
			{codes.Unauthenticated, kms.Denied},
			{codes.NotFound, kms.NotFound},
			{codes.InvalidArgument, kms.Internal},
			{codes.FailedPrecondition, kms.Disabled},
			{codes.Internal, kms.Unavailable},
		} {
			s.Inject(fails(tc.code))
			s.ResetCalls()
			err := do(t.Context(), "1")
			wantSays(t, err, op, tc.class)
			wantNoCanary(t, err)
			if status.Code(err) != tc.code || s.Calls("") != 1 {
				t.Errorf("%s: %v after %d requests", op, status.Code(err), s.Calls(""))
			}
			s.ClearFaults()
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		s.ResetCalls()
		err := do(ended, "1")
		wantSays(t, err, op, kms.Canceled)
		if !errors.Is(err, context.Canceled) || s.Calls("") != 0 {
			t.Errorf("%s: %v after %d requests", op, err, s.Calls(""))
		}
		s.Inject(gcpserver.Fault{Stall: true})
		impatient, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		wantSays(t, do(impatient, "1"), op, kms.Canceled)
		cancel()
		s.ClearFaults()
	}
}

// An answer that is about another key is no success.
func TestAdminWrongKey(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	ctx := t.Context()
	if err := key.Disable(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		op, method string
		do         func() error
	}{
		{"list versions", "GetCryptoKey", func() error { _, err := key.Versions(ctx); return err }},
		{"list versions", "ListCryptoKeyVersions", func() error { _, err := key.Versions(ctx); return err }},
		{"rotate", "CreateCryptoKeyVersion", func() error { _, err := key.Rotate(ctx); return err }},
		{"rotate", "UpdateCryptoKeyPrimaryVersion", func() error { _, err := key.Rotate(ctx); return err }},
		{"rotate", "GetCryptoKeyVersion", func() error {
			s.SetGenerationTime(time.Hour)
			_, err := key.Rotate(ctx)
			return err
		}},
		{"make primary", "GetCryptoKeyVersion", func() error { return key.MakePrimary(ctx, "2") }},
		{"disable", "UpdateCryptoKeyVersion", func() error { return key.Disable(ctx, "2") }},
		{"destroy", "DestroyCryptoKeyVersion", func() error { _, err := key.Destroy(ctx, "1", 0); return err }},
		{"restore", "RestoreCryptoKeyVersion", func() error { return key.Restore(ctx, "1") }},
	} {
		s.Inject(gcpserver.Fault{Method: tc.method, Harm: gcpserver.WrongKeyName})
		wantSays(t, tc.do(), tc.op, kms.Internal, "about another key")
		s.ClearFaults()
	}
	s.Inject(gcpserver.Fault{Harm: gcpserver.EndlessList})
	short, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := key.Versions(short)
	wantSays(t, err, "list versions", kms.Internal, "does not end")
}
