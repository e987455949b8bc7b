package gcpkms_test

import (
	"bytes"
	"context"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gcp "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	location = "projects/p/locations/global"
	ring     = location + "/keyRings/r"
	key      = ring + "/cryptoKeys/k"
	first    = key + "/cryptoKeyVersions/1"
)

// start runs a server with one key and returns it with Google's own client, which
// here does not retry.
func start(t *testing.T) (*gcpkms.Server, *gcp.KeyManagementClient) {
	t.Helper()
	s, err := gcpkms.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.AddKey(key); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := gcp.NewKeyManagementClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	c.CallOptions = &gcp.KeyManagementCallOptions{Encrypt: []gax.CallOption{}}
	t.Cleanup(func() { c.Close() })
	return s, c
}

func sum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func encrypt(t *testing.T, c *gcp.KeyManagementClient, name, text, aad string) *kmspb.EncryptResponse {
	t.Helper()
	resp, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: name, Plaintext: []byte(text), AdditionalAuthenticatedData: []byte(aad)})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func decrypt(t *testing.T, c *gcp.KeyManagementClient, ciphertext []byte, aad string) (string, error) {
	t.Helper()
	resp, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: key, Ciphertext: ciphertext, AdditionalAuthenticatedData: []byte(aad)})
	return string(resp.GetPlaintext()), err
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "kms.example.com:0", "127.0.0.1", "192.0.2.1:0"} {
		if s, err := gcpkms.Start(t.Context(), address); err == nil {
			s.Close()
			t.Errorf("listens on %s", address)
		}
	}
	s, _ := start(t)
	if again, err := gcpkms.Start(t.Context(), s.Addr()); err == nil {
		again.Close()
		t.Error("listens twice on one address")
	}
	s.Close()
	s.Close()
}

func TestEncryptDecrypt(t *testing.T) {
	s, c := start(t)
	if err := s.AddKey(ring + "/cryptoKeys/other"); err != nil {
		t.Fatal(err)
	}
	a, b := encrypt(t, c, key, "hello", "aad"), encrypt(t, c, first, "hello", "aad")
	if a.Name != first || b.Name != first || a.ProtectionLevel != kmspb.ProtectionLevel_SOFTWARE {
		t.Errorf("encrypted with %s and %s, level %v", a.Name, b.Name, a.ProtectionLevel)
	}
	if bytes.Equal(a.Ciphertext, b.Ciphertext) || bytes.Contains(a.Ciphertext, []byte("hello")) {
		t.Error("this is no encryption")
	}
	if got, err := decrypt(t, c, a.Ciphertext, "aad"); err != nil || got != "hello" {
		t.Errorf("decrypted %q, error %v", got, err)
	}
	for i := range a.Ciphertext {
		bad := bytes.Clone(a.Ciphertext)
		bad[i] ^= 1
		_, err := decrypt(t, c, bad, "aad")
		wantCode(t, "altered", err, codes.InvalidArgument)
	}
	_, err := decrypt(t, c, a.Ciphertext[:20], "aad")
	wantCode(t, "cut short", err, codes.InvalidArgument)
	_, err = decrypt(t, c, a.Ciphertext, "")
	wantCode(t, "without associated data", err, codes.InvalidArgument)
	_, err = decrypt(t, c, encrypt(t, c, ring+"/cryptoKeys/other", "x", "aad").Ciphertext, "aad")
	wantCode(t, "of another key", err, codes.InvalidArgument)
}

func TestLimits(t *testing.T) {
	s, c := start(t)
	const hsm = ring + "/cryptoKeys/hsm"
	if err := s.AddKeyLike(hsm, &kmspb.CryptoKey{
		Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: kmspb.ProtectionLevel_HSM},
	}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name           string
		plaintext, aad int
		want           codes.Code
	}{
		{key, 0, 0, codes.OK},
		{key, gcpkms.MaxPlaintext, gcpkms.MaxPlaintext, codes.OK},
		{key, gcpkms.MaxPlaintext + 1, 0, codes.InvalidArgument},
		{key, 0, gcpkms.MaxPlaintext + 1, codes.InvalidArgument},
		{hsm, gcpkms.MaxHSM - 1, 1, codes.OK},
		{hsm, gcpkms.MaxHSM, 1, codes.InvalidArgument},
	} {
		_, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{
			Name: tc.name, Plaintext: make([]byte, tc.plaintext), AdditionalAuthenticatedData: make([]byte, tc.aad),
		})
		wantCode(t, tc.name, err, tc.want)
	}
	_, err := decrypt(t, c, []byte("x"), strings.Repeat("a", gcpkms.MaxPlaintext+1))
	wantCode(t, "decrypt", err, codes.InvalidArgument)
}

func TestChecksums(t *testing.T) {
	_, c := start(t)
	text, aad := []byte("text"), []byte("aad")
	wrong := wrapperspb.Int64(1)
	resp, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{
		Name: key, Plaintext: text, PlaintextCrc32C: sum(text), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: sum(aad),
	})
	if err != nil || !resp.VerifiedPlaintextCrc32C || !resp.VerifiedAdditionalAuthenticatedDataCrc32C || resp.CiphertextCrc32C.GetValue() != sum(resp.Ciphertext).Value {
		t.Fatalf("%v, error %v", resp, err)
	}
	if plain := encrypt(t, c, key, "x", "y"); plain.VerifiedPlaintextCrc32C || plain.VerifiedAdditionalAuthenticatedDataCrc32C {
		t.Error("verified a checksum that never came")
	}
	opened, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{
		Name: key, Ciphertext: resp.Ciphertext, CiphertextCrc32C: sum(resp.Ciphertext), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: sum(aad),
	})
	if err != nil || !opened.UsedPrimary || opened.PlaintextCrc32C.GetValue() != sum(text).Value {
		t.Fatalf("%v, error %v", opened, err)
	}
	_, err = c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, Plaintext: text, PlaintextCrc32C: wrong})
	wantCode(t, "plaintext", err, codes.InvalidArgument)
	_, err = c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: wrong})
	wantCode(t, "associated data", err, codes.InvalidArgument)
	_, err = c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: key, Ciphertext: resp.Ciphertext, CiphertextCrc32C: wrong})
	wantCode(t, "ciphertext", err, codes.InvalidArgument)
	if !strings.Contains(err.Error(), "ciphertext_crc32c") {
		t.Errorf("%v does not name the field", err)
	}
	_, err = c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: key, Ciphertext: resp.Ciphertext, AdditionalAuthenticatedDataCrc32C: wrong})
	wantCode(t, "associated data of decrypt", err, codes.InvalidArgument)
}

func TestLifecycle(t *testing.T) {
	_, c := start(t)
	ctx := t.Context()
	old := encrypt(t, c, key, "old", "")
	v, err := c.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: key})
	if err != nil || v.Name != key+"/cryptoKeyVersions/2" || v.State != kmspb.CryptoKeyVersion_ENABLED {
		t.Fatalf("%v, error %v", v, err)
	}
	if got := encrypt(t, c, key, "x", "").Name; got != first {
		t.Errorf("a new version encrypts before it is the primary one: %s", got)
	}
	k, err := c.UpdateCryptoKeyPrimaryVersion(ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: key, CryptoKeyVersionId: "2"})
	if err != nil || k.Primary.GetName() != v.Name {
		t.Fatalf("%v, error %v", k, err)
	}
	if got := encrypt(t, c, key, "x", "").Name; got != v.Name {
		t.Errorf("encrypts with %s", got)
	}

	setState := func(to kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
		_, err := c.UpdateCryptoKeyVersion(ctx, &kmspb.UpdateCryptoKeyVersionRequest{
			CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: first, State: to}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
		})
		return err
	}
	state := func(want kmspb.CryptoKeyVersion_CryptoKeyVersionState, opens codes.Code) {
		t.Helper()
		got, err := c.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: first})
		if err != nil || got.State != want {
			t.Errorf("state %v, want %v (error %v)", got.GetState(), want, err)
		}
		_, err = decrypt(t, c, old.Ciphertext, "")
		wantCode(t, "decrypt in state "+want.String(), err, opens)
	}
	state(kmspb.CryptoKeyVersion_ENABLED, codes.OK)
	wantCode(t, "disable", setState(kmspb.CryptoKeyVersion_DISABLED), codes.OK)
	state(kmspb.CryptoKeyVersion_DISABLED, codes.FailedPrecondition)
	wantCode(t, "enable", setState(kmspb.CryptoKeyVersion_ENABLED), codes.OK)
	state(kmspb.CryptoKeyVersion_ENABLED, codes.OK)
	wantCode(t, "destroy by state", setState(kmspb.CryptoKeyVersion_DESTROYED), codes.InvalidArgument)

	_, err = c.RestoreCryptoKeyVersion(ctx, &kmspb.RestoreCryptoKeyVersionRequest{Name: first})
	wantCode(t, "restore what is not scheduled", err, codes.FailedPrecondition)
	gone, err := c.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: first})
	if err != nil || time.Until(gone.DestroyTime.AsTime()) < 29*24*time.Hour {
		t.Errorf("%v, error %v", gone, err)
	}
	state(kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, codes.FailedPrecondition)
	wantCode(t, "enable what is scheduled", setState(kmspb.CryptoKeyVersion_ENABLED), codes.FailedPrecondition)
	_, err = c.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: first})
	wantCode(t, "destroy twice", err, codes.FailedPrecondition)
	_, err = c.RestoreCryptoKeyVersion(ctx, &kmspb.RestoreCryptoKeyVersionRequest{Name: first})
	wantCode(t, "restore", err, codes.OK)
	state(kmspb.CryptoKeyVersion_DISABLED, codes.FailedPrecondition)
	wantCode(t, "enable", setState(kmspb.CryptoKeyVersion_ENABLED), codes.OK)
	state(kmspb.CryptoKeyVersion_ENABLED, codes.OK)
}

func TestDestroyed(t *testing.T) {
	s, c := start(t)
	const brief = ring + "/cryptoKeys/brief"
	if err := s.AddKeyLike(brief, &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, DestroyScheduledDuration: durationpb.New(0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DestroyCryptoKeyVersion(t.Context(), &kmspb.DestroyCryptoKeyVersionRequest{Name: brief + "/cryptoKeyVersions/1"}); err != nil {
		t.Fatal(err)
	}
	v, err := c.GetCryptoKeyVersion(t.Context(), &kmspb.GetCryptoKeyVersionRequest{Name: brief + "/cryptoKeyVersions/1"})
	if err != nil || v.State != kmspb.CryptoKeyVersion_DESTROYED || v.DestroyEventTime == nil {
		t.Errorf("%v, error %v", v, err)
	}
	_, err = c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: brief})
	wantCode(t, "encrypt", err, codes.FailedPrecondition)
	var kinds []string
	for _, d := range status.Convert(err).Details() {
		if f, ok := d.(*errdetails.PreconditionFailure); ok {
			kinds = append(kinds, f.Violations[0].Type)
		}
	}
	if !slices.Equal(kinds, []string{"KEY_DESTROYED"}) {
		t.Errorf("violations %v", kinds)
	}

	if err := s.SetState(key, 0, kmspb.CryptoKeyVersion_DESTROYED); err != nil {
		t.Fatal(err)
	}
	if err := s.SetState(key, 1, kmspb.CryptoKeyVersion_ENABLED); err == nil {
		t.Error("a destroyed version came back")
	}
	if err := s.SetState(key, 2, kmspb.CryptoKeyVersion_ENABLED); err == nil {
		t.Error("set the state of a version that does not exist")
	}
	if err := s.SetState(key+"x", 0, kmspb.CryptoKeyVersion_ENABLED); err == nil {
		t.Error("set the state of a key that does not exist")
	}
	if _, err := s.Rotate(key + "x"); err == nil {
		t.Error("rotated a key that does not exist")
	}
}

func TestList(t *testing.T) {
	s, c := start(t)
	for range 4 {
		if _, err := s.Rotate(key); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for v, err := range c.ListCryptoKeyVersions(t.Context(), &kmspb.ListCryptoKeyVersionsRequest{Parent: key, PageSize: 2}).All() {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(v.Name, key+"/cryptoKeyVersions/"))
	}
	if !slices.Equal(names, []string{"1", "2", "3", "4", "5"}) || s.Calls("ListCryptoKeyVersions") != 3 {
		t.Errorf("versions %v in %d calls", names, s.Calls("ListCryptoKeyVersions"))
	}
	for what, req := range map[string]*kmspb.ListCryptoKeyVersionsRequest{
		"bad token": {Parent: key, PageToken: "x"}, "bad parent": {Parent: ring}, "filter": {Parent: key, Filter: "state=ENABLED"},
	} {
		_, err := c.ListCryptoKeyVersions(t.Context(), req).Next()
		want := codes.InvalidArgument
		if what == "filter" {
			want = codes.Unimplemented
		}
		wantCode(t, what, err, want)
	}
}

// method is a method of the service, with what it takes and how to call it.
type method struct {
	method, permission string
	malformed, missing string // names
	call               func(name string) error
}

func methodsOf(ctx context.Context, c *gcp.KeyManagementClient) []method {
	state := &fieldmaskpb.FieldMask{Paths: []string{"state"}}
	spec := &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT}
	return []method{
		{"Encrypt", "cryptoKeyVersions.useToEncrypt", ring, key + "2", func(n string) error { _, err := c.Encrypt(ctx, &kmspb.EncryptRequest{Name: n}); return err }},
		{"Decrypt", "cryptoKeyVersions.useToDecrypt", first, key + "2", func(n string) error { _, err := c.Decrypt(ctx, &kmspb.DecryptRequest{Name: n}); return err }},
		{"GetCryptoKey", "cryptoKeys.get", first, key + "2", func(n string) error { _, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: n}); return err }},
		{"GetCryptoKeyVersion", "cryptoKeyVersions.get", key, key + "/cryptoKeyVersions/2", func(n string) error {
			_, err := c.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: n})
			return err
		}},
		{"ListCryptoKeyVersions", "cryptoKeyVersions.list", ring, key + "2", func(n string) error {
			_, err := c.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: n}).Next()
			return err
		}},
		{"CreateCryptoKey", "cryptoKeys.create", location, ring + "2", func(n string) error {
			_, err := c.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: n, CryptoKeyId: "new", CryptoKey: spec})
			return err
		}},
		{"CreateCryptoKeyVersion", "cryptoKeyVersions.create", ring, key + "2", func(n string) error {
			_, err := c.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: n})
			return err
		}},
		{"UpdateCryptoKeyPrimaryVersion", "cryptoKeys.update", ring, key + "2", func(n string) error {
			_, err := c.UpdateCryptoKeyPrimaryVersion(ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: n, CryptoKeyVersionId: "1"})
			return err
		}},
		{"UpdateCryptoKeyVersion", "cryptoKeyVersions.update", key, key + "2/cryptoKeyVersions/1", func(n string) error {
			_, err := c.UpdateCryptoKeyVersion(ctx, &kmspb.UpdateCryptoKeyVersionRequest{
				CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: n, State: kmspb.CryptoKeyVersion_ENABLED}, UpdateMask: state,
			})
			return err
		}},
		{"DestroyCryptoKeyVersion", "cryptoKeyVersions.destroy", key, key + "/cryptoKeyVersions/9", func(n string) error {
			_, err := c.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: n})
			return err
		}},
		{"RestoreCryptoKeyVersion", "cryptoKeyVersions.restore", key + "/cryptoKeyVersions/01", key + "/cryptoKeyVersions/9", func(n string) error {
			_, err := c.RestoreCryptoKeyVersion(ctx, &kmspb.RestoreCryptoKeyVersionRequest{Name: n})
			return err
		}},
	}
}

// What each method says to names that are malformed, of nothing, or forbidden.
func TestNamesAndPermissions(t *testing.T) {
	s, c := start(t)
	for _, m := range methodsOf(t.Context(), c) {
		t.Run(m.method, func(t *testing.T) {
			s.ResetCalls()
			wantCode(t, "malformed", m.call(m.malformed), codes.InvalidArgument)
			wantCode(t, "missing", m.call(m.missing), codes.NotFound)
			s.Deny("cloudkms."+m.permission, location)
			err := m.call(m.missing)
			wantCode(t, "denied", err, codes.PermissionDenied)
			if !strings.Contains(err.Error(), "cloudkms."+m.permission) {
				t.Errorf("%v does not name the permission", err)
			}
			s.Allow("cloudkms."+m.permission, location)
			wantCode(t, "allowed again", m.call(m.missing), codes.NotFound)
			if s.Calls(m.method) != 4 || s.Calls("") != 4 {
				t.Errorf("%d calls counted, %d in all", s.Calls(m.method), s.Calls(""))
			}
		})
	}
}

func TestCreate(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	newRing := func(parent, id string) error {
		_, err := c.CreateKeyRing(ctx, &kmspb.CreateKeyRingRequest{Parent: parent, KeyRingId: id})
		return err
	}
	wantCode(t, "ring", newRing(location, "new"), codes.OK)
	wantCode(t, "ring twice", newRing(location, "new"), codes.AlreadyExists)
	wantCode(t, "malformed ring", newRing(location, "a b"), codes.InvalidArgument)
	s.Deny("cloudkms.keyRings.create", "")
	wantCode(t, "ring denied", newRing(location, "newer"), codes.PermissionDenied)

	newKey := func(id string, spec *kmspb.CryptoKey) error {
		_, err := c.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: ring, CryptoKeyId: id, CryptoKey: spec})
		return err
	}
	symmetric := &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT}
	wantCode(t, "key twice", newKey("k", symmetric), codes.AlreadyExists)
	wantCode(t, "no purpose", newKey("a", &kmspb.CryptoKey{}), codes.InvalidArgument)
	wantCode(t, "nothing", newKey("a", nil), codes.InvalidArgument)
	wantCode(t, "signing key without algorithm", newKey("a", &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}), codes.InvalidArgument)
	signing := &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256}
	wantCode(t, "symmetric key with a signing algorithm", newKey("a", &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, VersionTemplate: signing}), codes.InvalidArgument)
	wantCode(t, "signing key", newKey("sign", &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, VersionTemplate: signing}), codes.OK)

	_, err := c.Encrypt(ctx, &kmspb.EncryptRequest{Name: ring + "/cryptoKeys/sign"})
	wantCode(t, "encrypt with a signing key", err, codes.FailedPrecondition)
	_, err = c.UpdateCryptoKeyPrimaryVersion(ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: ring + "/cryptoKeys/sign", CryptoKeyVersionId: "1"})
	wantCode(t, "primary version of a signing key", err, codes.FailedPrecondition)
	_, err = c.AsymmetricSign(ctx, &kmspb.AsymmetricSignRequest{Name: ring + "/cryptoKeys/sign/cryptoKeyVersions/1"})
	wantCode(t, "sign", err, codes.Unimplemented)

	k, err := c.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: ring, CryptoKeyId: "empty", CryptoKey: symmetric, SkipInitialVersionCreation: true})
	if err != nil || k.Primary != nil {
		t.Errorf("%v, error %v", k, err)
	}
	_, err = c.Encrypt(ctx, &kmspb.EncryptRequest{Name: ring + "/cryptoKeys/empty"})
	wantCode(t, "encrypt without a version", err, codes.FailedPrecondition)
	_, err = c.UpdateCryptoKeyVersion(ctx, &kmspb.UpdateCryptoKeyVersionRequest{CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: first}})
	wantCode(t, "update without a mask", err, codes.InvalidArgument)
	if k, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: key}); err != nil || k.Primary.GetName() != first {
		t.Errorf("%v, error %v", k, err)
	}
	if s.AddKey("payments") == nil || s.AddKey(key) == nil {
		t.Error("AddKey took a malformed name, or a name twice")
	}
}

func TestFaults(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	call := func() error { _, err := c.Encrypt(ctx, &kmspb.EncryptRequest{Name: key}); return err }

	s.Inject(gcpkms.Fault{Method: "Encrypt", Times: 2, Code: codes.ResourceExhausted, RetryAfter: time.Second})
	s.Inject(gcpkms.Fault{Code: codes.Unavailable, Message: "down"})
	err := call()
	wantCode(t, "first", err, codes.ResourceExhausted)
	info, ok := status.Convert(err).Details()[0].(*errdetails.RetryInfo)
	if !ok || info.RetryDelay.AsDuration() != time.Second {
		t.Errorf("details %v", status.Convert(err).Details())
	}
	_, err = c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: key})
	wantCode(t, "another method", err, codes.Unavailable)
	wantCode(t, "second", call(), codes.ResourceExhausted)
	wantCode(t, "third", call(), codes.Unavailable)
	s.ClearFaults()
	wantCode(t, "cleared", call(), codes.OK)

	s.Inject(gcpkms.Fault{Latency: 30 * time.Millisecond, Times: 1})
	began := time.Now()
	wantCode(t, "slow", call(), codes.OK)
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("took %v", took)
	}
	for _, f := range []gcpkms.Fault{{Stall: true, Times: 1}, {Latency: time.Hour, Times: 1}} {
		s.Inject(f)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_, err = c.Encrypt(short, &kmspb.EncryptRequest{Name: key})
		cancel()
		wantCode(t, "stalled", err, codes.DeadlineExceeded)
	}

	// The server may still be at those that the client gave up: taken for the next
	// call, they would have the connection dropped before that one is sent.
	for s.InFlight() != 0 {
		runtime.Gosched()
	}
	s.ResetCalls()
	s.Inject(gcpkms.Fault{Stall: true, Times: 1})
	done := make(chan error, 1)
	go func() { done <- call() }()
	for s.InFlight() == 0 {
		runtime.Gosched()
	}
	s.DropConnections()
	wantCode(t, "dropped", <-done, codes.Unavailable)
	if s.MostInFlight() < 1 {
		t.Error("no call was in flight")
	}
}

func TestHarm(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	text := []byte("0123456789abcdef")
	whole := encrypt(t, c, key, string(text), "aad")
	for _, tc := range []struct {
		harm gcpkms.Harm
		enc  func(*kmspb.EncryptResponse, error) bool
		dec  func(*kmspb.DecryptResponse, error) bool
	}{
		{
			gcpkms.DamagedRequest,
			func(_ *kmspb.EncryptResponse, err error) bool { return status.Code(err) == codes.InvalidArgument },
			func(_ *kmspb.DecryptResponse, err error) bool { return status.Code(err) == codes.InvalidArgument },
		},
		{
			gcpkms.DamagedRequestAAD,
			func(_ *kmspb.EncryptResponse, err error) bool { return status.Code(err) == codes.InvalidArgument },
			func(_ *kmspb.DecryptResponse, err error) bool { return status.Code(err) == codes.InvalidArgument },
		},
		{
			gcpkms.LostRequestChecksums,
			func(r *kmspb.EncryptResponse, err error) bool { return err == nil && !r.VerifiedPlaintextCrc32C },
			func(r *kmspb.DecryptResponse, err error) bool { return err == nil && bytes.Equal(r.Plaintext, text) },
		},
		{
			gcpkms.DamagedAnswer,
			func(r *kmspb.EncryptResponse, err error) bool {
				return err == nil && sum(r.Ciphertext).Value != r.CiphertextCrc32C.Value
			},
			func(r *kmspb.DecryptResponse, err error) bool {
				return err == nil && sum(r.Plaintext).Value != r.PlaintextCrc32C.Value
			},
		},
		{
			gcpkms.LostAnswerChecksum,
			func(r *kmspb.EncryptResponse, err error) bool { return err == nil && r.CiphertextCrc32C == nil },
			func(r *kmspb.DecryptResponse, err error) bool { return err == nil && r.PlaintextCrc32C == nil },
		},
		{
			gcpkms.WrongPlaintext, nil,
			func(r *kmspb.DecryptResponse, err error) bool {
				return err == nil && len(r.Plaintext) == len(text) && !bytes.Equal(r.Plaintext, text) && sum(r.Plaintext).Value == r.PlaintextCrc32C.Value
			},
		},
		{
			gcpkms.TruncatedPlaintext, nil,
			func(r *kmspb.DecryptResponse, err error) bool {
				return err == nil && len(r.Plaintext) == len(text)/2 && sum(r.Plaintext).Value == r.PlaintextCrc32C.Value
			},
		},
		{gcpkms.WrongKeyName, func(r *kmspb.EncryptResponse, err error) bool { return err == nil && r.Name != first && r.Name != "" }, nil},
		{
			gcpkms.EmptyAnswer,
			func(r *kmspb.EncryptResponse, err error) bool { return err == nil && len(r.Ciphertext) == 0 },
			func(r *kmspb.DecryptResponse, err error) bool { return err == nil && len(r.Plaintext) == 0 },
		},
		{
			gcpkms.HugeAnswer,
			func(r *kmspb.EncryptResponse, err error) bool {
				return err == nil && len(r.Ciphertext) > gcpkms.MaxPlaintext && sum(r.Ciphertext).Value == r.CiphertextCrc32C.Value
			},
			func(r *kmspb.DecryptResponse, err error) bool {
				return err == nil && len(r.Plaintext) > gcpkms.MaxPlaintext && sum(r.Plaintext).Value == r.PlaintextCrc32C.Value
			},
		},
	} {
		s.Inject(gcpkms.Fault{Harm: tc.harm})
		aad := []byte("aad")
		e, err := c.Encrypt(ctx, &kmspb.EncryptRequest{
			Name: key, Plaintext: text, PlaintextCrc32C: sum(text), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: sum(aad),
		})
		if tc.enc != nil && !tc.enc(e, err) {
			t.Errorf("harm %d to Encrypt: error %v", tc.harm, err)
		}
		d, err := c.Decrypt(ctx, &kmspb.DecryptRequest{
			Name: key, Ciphertext: whole.Ciphertext, CiphertextCrc32C: sum(whole.Ciphertext), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: sum(aad),
		})
		if tc.dec != nil && !tc.dec(d, err) {
			t.Errorf("harm %d to Decrypt: error %v", tc.harm, err)
		}
		s.ClearFaults()
	}
}
