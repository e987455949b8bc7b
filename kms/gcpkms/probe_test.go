package gcpkms_test

import (
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

func mustProbe(t *testing.T, key kms.Key) kms.Report {
	t.Helper()
	prober, ok := kms.As[kms.Prober](key)
	if !ok {
		t.Fatal("no Prober")
	}
	r, err := prober.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestProbe(t *testing.T) {
	s := startServer(t)
	today := time.Now().UTC().Format(time.DateOnly)
	next := time.Now().Add(48 * time.Hour)
	encryption := kmspb.CryptoKey_ENCRYPT_DECRYPT
	rotates := &kmspb.CryptoKey_RotationPeriod{RotationPeriod: durationpb.New(90 * 24 * time.Hour)}
	level := func(l kmspb.ProtectionLevel) *kmspb.CryptoKeyVersionTemplate {
		return &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: l}
	}
	doomed := strings.Replace(keyName, "payments", "doomed", 1)
	for _, tc := range []struct {
		id       string
		spec     *kmspb.CryptoKey
		prepare  func()
		key      string
		warnings []string // a part of each
	}{
		{
			"sound", &kmspb.CryptoKey{Purpose: encryption, VersionTemplate: level(kmspb.ProtectionLevel_HSM), RotationSchedule: rotates, NextRotationTime: timestamppb.New(next)}, nil,
			"encrypt decrypt key, protection level HSM, GOOGLE_SYMMETRIC_ENCRYPTION, primary version 1 enabled of " + today +
				", rotates every 90 days, next on " + next.UTC().Format(time.DateOnly), nil,
		},
		{
			"plain", &kmspb.CryptoKey{Purpose: encryption}, nil,
			"encrypt decrypt key, protection level software, GOOGLE_SYMMETRIC_ENCRYPTION, primary version 1 enabled of " + today,
			[]string{"no rotation schedule"},
		},
		{
			"doomed", &kmspb.CryptoKey{Purpose: encryption, RotationSchedule: rotates, DestroyScheduledDuration: durationpb.New(24 * time.Hour)},
			func() {
				if _, err := s.Rotate(doomed); err != nil {
					t.Fatal(err)
				}
				if err := s.SetState(doomed, 2, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED); err != nil {
					t.Fatal(err)
				}
			},
			"encrypt decrypt key, protection level software, GOOGLE_SYMMETRIC_ENCRYPTION, primary version 2 destroy scheduled of " + today + ", rotates every 90 days",
			[]string{"the primary version 2 is destroy scheduled: nothing can be sealed", "version 2 is scheduled to be destroyed on 20", "destroyed 1 day after somebody asks"},
		},
		{
			"external", &kmspb.CryptoKey{Purpose: encryption, VersionTemplate: level(kmspb.ProtectionLevel_EXTERNAL_VPC)}, nil,
			"encrypt decrypt key, protection level external vpc, GOOGLE_SYMMETRIC_ENCRYPTION, primary version 1 enabled of " + today,
			[]string{"an external manager keeps the key"},
		},
		{
			"imported", &kmspb.CryptoKey{Purpose: encryption, ImportOnly: true, DestroyScheduledDuration: durationpb.New(90 * time.Minute)}, nil,
			"encrypt decrypt key, protection level software, GOOGLE_SYMMETRIC_ENCRYPTION, primary version 1 enabled of " + today,
			[]string{"was imported", "destroyed 1h30m0s after"},
		},
	} {
		t.Run(tc.id, func(t *testing.T) {
			key := addKey(t, s, tc.id, tc.spec)
			if tc.prepare != nil {
				tc.prepare()
			}
			r := mustProbe(t, key)
			if r.Key != tc.key {
				t.Errorf("key:  %s\nwant: %s", r.Key, tc.key)
			}
			if len(r.Warnings) != len(tc.warnings) {
				t.Fatalf("warnings %q", r.Warnings)
			}
			for i, w := range tc.warnings {
				if !strings.Contains(r.Warnings[i], w) {
					t.Errorf("warning %q, want %q", r.Warnings[i], w)
				}
			}
			if r.Identity != "" || r.SkewKnown || !r.Expires.IsZero() {
				t.Errorf("an emulator knows neither us nor the time: %+v", r)
			}
		})
	}
}

func TestProbeSkew(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	for _, ahead := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
		s.TellTime(ahead)
		r := mustProbe(t, key)
		if off := r.Skew - ahead; !r.SkewKnown || off < -2*time.Second || off > 2*time.Second || ahead == 0 && r.Skew != 0 {
			t.Errorf("%v ahead: skew %v, known %v", ahead, r.Skew, r.SkewKnown)
		}
	}
}

// Workers may not describe the key, and need not.
func TestProbeUnprivileged(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	s.TellTime(time.Hour)
	s.Deny("cloudkms.cryptoKeyVersions.list", "")
	if r := mustProbe(t, key); r.Key == "" || len(r.Warnings) != 1 {
		t.Errorf("without the list of versions: %+v", r)
	}
	s.Deny("cloudkms.cryptoKeys.get", "")
	for _, taken := range []string{"", "cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"} {
		if taken != "" { // an identity that may only open, or only seal
			s.Deny(taken, "")
		}
		if r := mustProbe(t, key); r.Key != "" || len(r.Warnings) != 0 || !r.SkewKnown || r.Skew < 59*time.Minute {
			t.Errorf("without %s: %+v", taken, r)
		}
		s.Allow(taken, "")
	}
	s.Deny("cloudkms.cryptoKeyVersions.useToEncrypt", "")
	s.Deny("cloudkms.cryptoKeyVersions.useToDecrypt", "")
	_, err := key.Probe(t.Context())
	wantSays(t, err, "probe", kms.Denied, "our identity may not probe", "grant roles/cloudkms.cryptoKeyEncrypterDecrypter")
	s.Inject(gcpserver.Fault{Method: "Decrypt", Code: codes.Unavailable, Times: 1})
	_, err = key.Probe(t.Context())
	wantSays(t, err, "probe", kms.Unavailable)
	s.Allow("cloudkms.cryptoKeyVersions.useToDecrypt", "")
	signing := addKey(t, s, "signing", &kmspb.CryptoKey{
		Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256},
	})
	_, err = signing.Probe(t.Context())
	wantSays(t, err, "probe", kms.Invalid, "wrong kind")
	s.Allow("cloudkms.cryptoKeys.get", "")
	s.Inject(gcpserver.Fault{Method: "ListCryptoKeyVersions", Code: codes.Unavailable})
	_, err = key.Probe(t.Context())
	wantSays(t, err, "probe", kms.Unavailable)
}

// What keeps us from using the key at all is an error.
func TestProbeFails(t *testing.T) {
	s := startServer(t)
	key := newKey(t, s)
	signing := addKey(t, s, "signing", &kmspb.CryptoKey{
		Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256},
	})
	_, err := signing.Probe(t.Context())
	wantSays(t, err, "probe", kms.Invalid, "wrong kind", "--purpose=encryption")
	for id, state := range map[string]kmspb.CryptoKeyVersion_CryptoKeyVersionState{
		"off": kmspb.CryptoKeyVersion_DISABLED, "leaving": kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, "lost": kmspb.CryptoKeyVersion_DESTROYED,
	} {
		dead := addKey(t, s, id, &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT})
		if err := s.SetState(strings.Replace(keyName, "payments", id, 1), 0, state); err != nil {
			t.Fatal(err)
		}
		class := kms.Disabled
		if state == kmspb.CryptoKeyVersion_DESTROYED {
			class = kms.NotFound
		}
		_, err = dead.Probe(t.Context())
		wantSays(t, err, "probe", class)
	}
	_, err = newKey(t, s, func(c *gcpkms.Config) { c.Name += "-gone" }).Probe(t.Context())
	wantSays(t, err, "probe", kms.NotFound, "no such key")
	s.Inject(gcpserver.Fault{
		Code: codes.PermissionDenied, Detail: &errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com"},
	})
	_, err = key.Probe(t.Context())
	wantSays(t, err, "probe", kms.Denied, "API is not enabled")
}

// A key without versions neither seals nor opens; one with a single version that is not the
// primary opens.
func TestProbeWithoutPrimary(t *testing.T) {
	s := startServer(t)
	name := keyName + "-empty"
	addEmptyKey(t, s, name)
	key := newKey(t, s, func(c *gcpkms.Config) { c.Name = name })
	_, err := key.Probe(t.Context())
	wantSays(t, err, "probe", kms.Disabled, "no enabled version", "gcloud kms keys versions create --primary --key=payments-empty")
	if versions, err := key.Versions(t.Context()); err != nil || len(versions) != 0 {
		t.Errorf("versions %v, error %v", versions, err)
	}
	s.Inject(gcpserver.Fault{Method: "UpdateCryptoKeyPrimaryVersion", Code: codes.Unavailable})
	_, err = key.Rotate(t.Context())
	wantSays(t, err, "rotate", kms.Unavailable, "version 1 was made")
	s.ClearFaults()
	r := mustProbe(t, key)
	if r.Key != "encrypt decrypt key, protection level software, GOOGLE_SYMMETRIC_ENCRYPTION" || len(r.Warnings) != 2 || !strings.Contains(r.Warnings[0], "no primary version") {
		t.Errorf("%+v", r)
	}
	if err := key.MakePrimary(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	mustWrap(t, key, newDataKeys(1))
}
