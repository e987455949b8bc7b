package gcpkms_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	gcp "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// addEmptyKey adds a key without any version, which only a client can.
func addEmptyKey(t *testing.T, s *gcpserver.Server, name string) {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := gcp.NewKeyManagementClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	parent, id, _ := strings.Cut(name, "/cryptoKeys/")
	if _, err := client.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{
		Parent: parent, CryptoKeyId: id, CryptoKey: &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT}, SkipInitialVersionCreation: true,
	}); err != nil {
		t.Fatal(err)
	}
}

// What people get wrong: each error names the key and the remedy.
func TestBadKeys(t *testing.T) {
	s := startServer(t)
	blob := mustWrap(t, newKey(t, s), newDataKeys(1))[0].Blob
	const project, flags = "projects/acme-prod/locations/europe-west3/keyRings/waxseal/cryptoKeys/", " --keyring=waxseal --location=europe-west3 --project=acme-prod"
	add := func(id string, purpose kmspb.CryptoKey_CryptoKeyPurpose, algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) {
		if err := s.AddKeyLike(project+id, &kmspb.CryptoKey{Purpose: purpose, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: algorithm}}); err != nil {
			t.Fatal(err)
		}
	}
	add("signing", kmspb.CryptoKey_ASYMMETRIC_SIGN, kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256)
	add("decrypting", kmspb.CryptoKey_ASYMMETRIC_DECRYPT, kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256)
	add("mac", kmspb.CryptoKey_MAC, kmspb.CryptoKeyVersion_HMAC_SHA256)
	add("raw", kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT, kmspb.CryptoKeyVersion_AES_256_GCM)
	addEmptyKey(t, s, project+"empty")
	for id, state := range map[string]kmspb.CryptoKeyVersion_CryptoKeyVersionState{
		"off": kmspb.CryptoKeyVersion_DISABLED, "leaving": kmspb.CryptoKeyVersion_DESTROY_SCHEDULED,
		"lost": kmspb.CryptoKeyVersion_DESTROYED, "coming": kmspb.CryptoKeyVersion_PENDING_GENERATION,
	} {
		if err := s.AddKey(project + id); err != nil {
			t.Fatal(err)
		}
		if err := s.SetState(project+id, 0, state); err != nil {
			t.Fatal(err)
		}
	}
	const foreign = "projects/other-corp/locations/global/keyRings/r/cryptoKeys/k"
	if err := s.AddKey(foreign); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"useToEncrypt", "useToDecrypt"} {
		s.Deny("cloudkms.cryptoKeyVersions."+p, "projects/other-corp/locations/global")
	}
	for _, tc := range []struct {
		name   string
		key    string
		wrap   kms.Class
		words  []string // of the error of Wrap
		unwrap kms.Class
	}{
		{"signing key", project + "signing", kms.Invalid, []string{"wrong kind", "ENCRYPT_DECRYPT", "--purpose=encryption"}, kms.Invalid},
		{"asymmetric key", project + "decrypting", kms.Invalid, []string{"wrong kind", "--purpose=encryption"}, kms.Invalid},
		{"MAC key", project + "mac", kms.Invalid, []string{"wrong kind", "--purpose=encryption"}, kms.Invalid},
		{"key for raw encryption", project + "raw", kms.Invalid, []string{"wrong kind", "--purpose=encryption"}, kms.Invalid},
		{"missing key", project + "gone", kms.NotFound, []string{"no such key", "gcloud kms keys list" + flags}, kms.NotFound},
		{"key of another project", foreign, kms.Denied, []string{"or the key does not exist", "grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key"}, kms.Denied},
		{"no primary version", project + "empty", kms.Disabled, []string{"no primary version", "gcloud kms keys versions create --primary --key=empty" + flags}, kms.Corrupt},
		{"disabled", project + "off", kms.Disabled, []string{"is disabled", "gcloud kms keys versions enable VERSION --key=off" + flags}, kms.Corrupt},
		{"scheduled for destruction", project + "leaving", kms.Disabled, []string{"scheduled for destruction", "gcloud kms keys versions restore VERSION --key=leaving" + flags}, kms.Corrupt},
		{"destroyed", project + "lost", kms.NotFound, []string{"was destroyed", "another recipient's key"}, kms.Corrupt},
		{"being made", project + "coming", kms.Disabled, []string{"still being made", "gcloud kms keys versions list --key=coming" + flags}, kms.Corrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := newKey(t, s, func(c *gcpkms.Config) { c.Name = tc.key })
			_, err := key.Wrap(t.Context(), newDataKeys(1), ec)
			wantSays(t, err, "wrap", tc.wrap, append(tc.words, "gcpkms://"+tc.key)...)
			// What another key wrapped: nothing of this one's states shows.
			wantSays(t, unwrapError(t.Context(), t, key, kms.Wrapped{Blob: blob}), "unwrap", tc.unwrap, "gcpkms://"+tc.key)
		})
	}
}

// The delay that Cloud KMS or a proxy demands arrives with every operation.
func TestRetryAfterArrives(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(1))[0]
	for name, f := range map[string]gcpserver.Fault{
		"RetryInfo":         {Code: codes.ResourceExhausted, RetryAfter: 7 * time.Second},
		"header":            {Code: codes.ResourceExhausted, RetryHeader: "7"},
		"when out":          {Code: codes.Unavailable, RetryAfter: 7 * time.Second},
		"the first of both": {Code: codes.ResourceExhausted, RetryAfter: 7 * time.Second, RetryHeader: "9"},
	} {
		s.Inject(f)
		_, wrapErr := key.Wrap(t.Context(), newDataKeys(2), ec)
		_, listErr := key.Versions(t.Context())
		for what, err := range map[string]error{"wrap": wrapErr, "unwrap": unwrapError(t.Context(), t, key, wrapped), "list": listErr} {
			if e := asError(t, err); e.RetryAfter != 7*time.Second {
				t.Errorf("%s: %s: RetryAfter = %v", name, what, e.RetryAfter)
			}
		}
		s.ClearFaults()
	}
}

// A login page, a proxy that refuses and one that is too busy are not Cloud KMS: what
// they say revokes nothing.
func TestNotCloudKMS(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	wrapped := mustWrap(t, key, newDataKeys(1))[0]
	for status, want := range map[int]kms.Class{200: kms.Unavailable, 302: kms.Unavailable, 401: kms.Unavailable, 403: kms.Unavailable, 404: kms.Unavailable, 429: kms.Throttled, 502: kms.Unavailable} {
		s.AnswerInstead(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>"+canary)
		}))
		// The client may have to connect anew first, which is another sort of Unavailable.
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if err = unwrapError(t.Context(), t, key, wrapped); !strings.Contains(err.Error(), "cannot be reached") {
				break
			}
		}
		wantError(t, err, "unwrap", want)
		wantNoCanary(t, err)
		if !strings.Contains(err.Error(), s.Addr()) {
			t.Errorf("%d: %v does not name the address", status, err)
		}
	}
}
