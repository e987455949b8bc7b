package gcpkms

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/waxseal/waxseal/kms"
)

func TestVersionOf(t *testing.T) {
	const key = "projects/acme/locations/global/keyRings/r/cryptoKeys/k"
	for _, tc := range []struct {
		name, answer, want string
	}{
		{"ours", key + "/cryptoKeyVersions/7", "7"},
		{"large", key + "/cryptoKeyVersions/1234567890", "1234567890"},
		{"project by number", "projects/42/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", "7"},
		{"other project", "projects/acme2/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other location", "projects/acme/locations/europe/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other location, project by number", "projects/42/locations/europe/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other key", key + "2/cryptoKeyVersions/7", ""},
		{"no version", key, ""},
		{"empty version", key + "/cryptoKeyVersions/", ""},
		{"version 0", key + "/cryptoKeyVersions/0", ""},
		{"leading zero", key + "/cryptoKeyVersions/07", ""},
		{"not a number", key + "/cryptoKeyVersions/7@8", ""},
		{"too long", key + "/cryptoKeyVersions/12345678901", ""},
		{"more after it", key + "/cryptoKeyVersions/7/cryptoKeyVersions/8", ""},
		{"empty", "", ""},
		{"project only", "projects/42/cryptoKeyVersions/1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := versionOf(key, tc.answer)
			if ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("versionOf = %q, %v, want %q", got, ok, tc.want)
			}
		})
	}
	if _, ok := versionOf("projects/41/locations/global/keyRings/r/cryptoKeys/k", "projects/42/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7"); ok {
		t.Error("two project numbers that differ are taken for one project")
	}
}

func TestReasonByDetails(t *testing.T) {
	k := &Key{id: "gcpkms://k", endpoint: DefaultEndpoint}
	violated := func(kind string) protoadapt.MessageV1 {
		return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind}}}
	}
	info := func(reason string) protoadapt.MessageV1 { return &errdetails.ErrorInfo{Reason: reason} }
	seen := make(map[string]bool)
	for _, tc := range []struct {
		code   codes.Code
		detail protoadapt.MessageV1
		want   kms.Class
	}{
		{codes.FailedPrecondition, violated("KEY_DESTROYED"), kms.NotFound},
		{codes.FailedPrecondition, violated("KEY_DISABLED"), kms.Disabled},
		{codes.FailedPrecondition, violated("EXTERNAL"), kms.Disabled},
		{codes.FailedPrecondition, &errdetails.PreconditionFailure{}, kms.Disabled},
		{codes.PermissionDenied, info("SERVICE_DISABLED"), kms.Denied},
		{codes.PermissionDenied, info("BILLING_DISABLED"), kms.Denied},
		{codes.PermissionDenied, info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), kms.Denied},
		{codes.PermissionDenied, info("IAM_PERMISSION_DENIED"), kms.Denied},
	} {
		st, err := status.New(tc.code, "said").WithDetails(tc.detail)
		if err != nil {
			t.Fatal(err)
		}
		got := k.reason(opUnwrap, st)
		if got.class != tc.want || got.detail == "" || got.advice == "" {
			t.Errorf("%v: %+v, want %v", st.Proto(), got, tc.want)
		}
		seen[got.detail] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d different details, want 7", len(seen))
	}
}
