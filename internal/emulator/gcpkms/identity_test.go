package gcpkms_test

import (
	"context"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func as(ctx context.Context, authorization string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
}

func TestIdentities(t *testing.T) {
	s, c := start(t)
	const worker, reader = "serviceAccount:worker@p.iam.gserviceaccount.com", "user:reader@example.com"
	s.SignIn(worker, "worker-token")
	s.SignIn(reader, "reader-token")
	if err := s.Grant(worker, key, "roles/cloudkms.cryptoKeyEncrypter"); err != nil {
		t.Fatal(err)
	}
	if err := s.Grant(reader, location, "roles/cloudkms.cryptoKeyDecrypter", "cloudkms.cryptoKeys.get"); err != nil {
		t.Fatal(err)
	}
	if err := s.Grant(reader, "", "roles/owner"); err == nil {
		t.Error("granted a role that the server does not know")
	}
	enc := func(ctx context.Context) error {
		_, err := c.Encrypt(ctx, &kmspb.EncryptRequest{Name: key})
		return err
	}
	get := func(ctx context.Context) error {
		_, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: key})
		return err
	}
	list := func(ctx context.Context) error {
		_, err := c.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key}).Next()
		return err
	}
	for _, tc := range []struct {
		name          string
		ctx           context.Context
		enc, get, lst codes.Code
	}{
		{"nobody", t.Context(), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"unknown token", as(t.Context(), "Bearer other"), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"another scheme", as(t.Context(), "Basic worker-token"), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"two tokens", as(as(t.Context(), "Bearer worker-token"), "Bearer reader-token"), codes.Unauthenticated, codes.Unauthenticated, codes.Unauthenticated},
		{"worker", as(t.Context(), "Bearer worker-token"), codes.OK, codes.PermissionDenied, codes.PermissionDenied},
		{"reader", as(t.Context(), "Bearer reader-token"), codes.PermissionDenied, codes.OK, codes.PermissionDenied},
	} {
		wantCode(t, tc.name+" encrypts", enc(tc.ctx), tc.enc)
		wantCode(t, tc.name+" describes", get(tc.ctx), tc.get)
		wantCode(t, tc.name+" lists", list(tc.ctx), tc.lst)
	}
	reason := func(err error) string {
		for _, d := range status.Convert(err).Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				return info.Reason
			}
		}
		return ""
	}
	if got := reason(enc(t.Context())); got != "CREDENTIALS_MISSING" {
		t.Errorf("without a token: %q", got)
	}
	s.Expire("no such token")
	s.Expire("worker-token")
	if got := reason(enc(as(t.Context(), "Bearer worker-token"))); got != "ACCESS_TOKEN_EXPIRED" {
		t.Errorf("with an expired token: %q", got)
	}

	wantCode(t, "before its roles are revoked", get(as(t.Context(), "Bearer reader-token")), codes.OK)
	s.Revoke(reader)
	wantCode(t, "after", get(as(t.Context(), "Bearer reader-token")), codes.PermissionDenied)

	// What the program does that runs the server needs no permission.
	s.Deny("cloudkms.cryptoKeyVersions.create", "")
	if _, err := s.Rotate(key); err != nil {
		t.Error(err)
	}
}

// Every permission that the server checks is in the predefined roles that Google documents
// it in.
func TestPredefinedRoles(t *testing.T) {
	s, c := start(t)
	for role, can := range map[string]map[string]bool{
		"roles/cloudkms.cryptoKeyEncrypter":          {"Encrypt": true},
		"roles/cloudkms.cryptoKeyDecrypter":          {"Decrypt": true},
		"roles/cloudkms.cryptoKeyEncrypterDecrypter": {"Encrypt": true, "Decrypt": true},
		"roles/cloudkms.viewer":                      {"GetCryptoKey": true, "GetCryptoKeyVersion": true, "ListCryptoKeyVersions": true},
		"roles/cloudkms.admin": {
			"GetCryptoKey": true, "GetCryptoKeyVersion": true, "ListCryptoKeyVersions": true, "CreateCryptoKey": true, "CreateCryptoKeyVersion": true,
			"UpdateCryptoKeyPrimaryVersion": true, "UpdateCryptoKeyVersion": true, "DestroyCryptoKeyVersion": true, "RestoreCryptoKeyVersion": true,
		},
	} {
		s.SignIn("user:"+role, role)
		if err := s.Grant("user:"+role, location, role); err != nil {
			t.Fatal(err)
		}
		for _, m := range methodsOf(as(t.Context(), "Bearer "+role), c) {
			want := codes.PermissionDenied
			if can[m.method] {
				want = codes.NotFound
			}
			wantCode(t, role+" "+m.method, m.call(m.missing), want)
		}
	}
}
