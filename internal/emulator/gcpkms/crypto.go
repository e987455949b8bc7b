package gcpkms

import (
	"context"
	"hash/crc32"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// MaxPlaintext is how many bytes Encrypt takes, and how much additional
	// authenticated data: 64 KiB each.
	MaxPlaintext = 64 << 10
	// MaxHSM is how many bytes of plaintext and additional authenticated data
	// together a key of protection level HSM takes.
	MaxHSM = 8 << 10

	// formatByte begins every ciphertext; the version's ID and the nonce follow.
	formatByte = 0x0a
)

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// verified reports whether a checksum came with the data of a field, or an error
// if it came and is not the data's.
func verified(field string, data []byte, sum *wrapperspb.Int64Value) (bool, error) {
	if sum == nil {
		return false, nil
	}
	if sum.Value != checksum(data).Value {
		return false, status.Errorf(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	return true, nil
}

func (s *service) Encrypt(ctx context.Context, req *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	f := faultOf(ctx)
	f.harmEncryptRequest(req)
	keyName, _, isVersion := strings.Cut(req.Name, "/cryptoKeyVersions/")
	plainOK, err := verified("plaintext", req.Plaintext, req.PlaintextCrc32C)
	if err != nil {
		return nil, err
	}
	aad := req.AdditionalAuthenticatedData
	aadOK, err := verified("additional_authenticated_data", aad, req.AdditionalAuthenticatedDataCrc32C)
	if err != nil {
		return nil, err
	}
	return onKey(ctx, s, "name", keyName, useToEncrypt, func(k *cryptoKey) (*kmspb.EncryptResponse, error) {
		if err := k.takes(len(req.Plaintext), len(aad)); err != nil {
			return nil, err
		}
		v := k.primary
		if isVersion {
			if v, err = s.findVersion(req.Name); err != nil {
				return nil, err
			}
		}
		if v == nil {
			return nil, precondition("KEY_NO_PRIMARY", k.name, k.name+" has no primary version.")
		}
		if err := v.usable(); err != nil {
			return nil, err
		}
		header := slices.Concat([]byte{formatByte}, v.id[:])
		out := slices.Concat(header, v.aead.Seal(nil, nil, req.Plaintext, slices.Concat(header, aad))) //nolint:gosec // the cipher makes its nonces
		resp := &kmspb.EncryptResponse{
			Name: v.name(), Ciphertext: out, CiphertextCrc32C: checksum(out),
			VerifiedPlaintextCrc32C: plainOK, VerifiedAdditionalAuthenticatedDataCrc32C: aadOK,
			ProtectionLevel: k.level,
		}
		f.harmEncryptAnswer(resp)
		return resp, nil
	})
}

func (s *service) Decrypt(ctx context.Context, req *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	f := faultOf(ctx)
	f.harmDecryptRequest(req)
	if _, err := verified("ciphertext", req.Ciphertext, req.CiphertextCrc32C); err != nil {
		return nil, err
	}
	aad := req.AdditionalAuthenticatedData
	if _, err := verified("additional_authenticated_data", aad, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	return onKey(ctx, s, "name", req.Name, useToDecrypt, func(k *cryptoKey) (*kmspb.DecryptResponse, error) {
		if err := k.takes(0, len(aad)); err != nil {
			return nil, err
		}
		resp, err := k.decrypt(req.Ciphertext, aad)
		if err == nil {
			f.harmDecryptAnswer(resp)
		}
		return resp, err
	})
}

func (k *cryptoKey) decrypt(in, aad []byte) (*kmspb.DecryptResponse, error) {
	const header = 1 + versionIDSize
	if len(in) < header || in[0] != formatByte {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	at := slices.IndexFunc(k.versions, func(v *version) bool { return string(v.id[:]) == string(in[1:header]) })
	if at < 0 {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	}
	v := k.versions[at]
	if err := v.usable(); err != nil {
		return nil, err
	}
	plaintext, err := v.aead.Open(nil, nil, in[header:], slices.Concat(in[:header], aad))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.DecryptResponse{
		Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext), UsedPrimary: v == k.primary, ProtectionLevel: k.level,
	}, nil
}

// takes checks that k encrypts and decrypts, and takes that much.
func (k *cryptoKey) takes(plaintext, aad int) error {
	switch {
	case k.purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT:
		return status.Errorf(codes.FailedPrecondition, "%s has the purpose %s. The purpose that this operation needs is %s.",
			k.name, k.purpose, kmspb.CryptoKey_ENCRYPT_DECRYPT)
	case plaintext > MaxPlaintext:
		return status.Errorf(codes.InvalidArgument, "The field plaintext must be no larger than %d bytes.", MaxPlaintext)
	case aad > MaxPlaintext:
		return status.Errorf(codes.InvalidArgument, "The field additional_authenticated_data must be no larger than %d bytes.", MaxPlaintext)
	case k.level == kmspb.ProtectionLevel_HSM && plaintext+aad > MaxHSM:
		return status.Errorf(codes.InvalidArgument, "The fields plaintext and additional_authenticated_data must together be no larger than %d bytes.", MaxHSM)
	}
	return nil
}
