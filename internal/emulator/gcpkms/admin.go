package gcpkms

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (s *service) CreateKeyRing(ctx context.Context, req *kmspb.CreateKeyRingRequest) (*kmspb.KeyRing, error) {
	name := req.Parent + "/keyRings/" + req.KeyRingId
	if _, _, ok := splitRing(name); !ok {
		return nil, badName("parent or key_ring_id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(ctx, "cloudkms.keyRings.create", req.Parent); err != nil {
		return nil, err
	}
	if _, twice := s.rings[name]; twice {
		return nil, status.Errorf(codes.AlreadyExists, "KeyRing %s already exists.", name)
	}
	now := time.Now()
	s.rings[name] = now
	return &kmspb.KeyRing{Name: name, CreateTime: timestamppb.New(now)}, nil
}

func (s *service) CreateCryptoKey(ctx context.Context, req *kmspb.CreateCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	name := req.Parent + "/cryptoKeys/" + req.CryptoKeyId
	if _, _, ok := splitKey(name); !ok {
		return nil, badName("parent or crypto_key_id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(ctx, "cloudkms.cryptoKeys.create", req.Parent); err != nil {
		return nil, err
	}
	if _, ok := s.rings[req.Parent]; !ok {
		return nil, notFound("KeyRing", req.Parent)
	}
	if _, twice := s.keys[name]; twice {
		return nil, status.Errorf(codes.AlreadyExists, "CryptoKey %s already exists.", name)
	}
	spec := req.CryptoKey
	if spec.GetPurpose() == kmspb.CryptoKey_CRYPTO_KEY_PURPOSE_UNSPECIFIED {
		return nil, status.Error(codes.InvalidArgument, "The field crypto_key.purpose is required.")
	}
	symmetric := spec.Purpose == kmspb.CryptoKey_ENCRYPT_DECRYPT
	algorithm := spec.VersionTemplate.GetAlgorithm()
	if symmetric && algorithm == kmspb.CryptoKeyVersion_CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED {
		algorithm = kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION
	}
	if symmetric != (algorithm == kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION) ||
		algorithm == kmspb.CryptoKeyVersion_CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED {
		return nil, status.Error(codes.InvalidArgument, "The field crypto_key.version_template.algorithm does not go with the purpose.")
	}
	k := &cryptoKey{
		name: name, purpose: spec.Purpose, algorithm: algorithm, level: spec.VersionTemplate.GetProtectionLevel(),
		labels: maps.Clone(spec.Labels), created: time.Now(), destroyAfter: destroyAfter,
		rotateEvery: spec.GetRotationPeriod(), nextRotation: spec.NextRotationTime, importOnly: spec.ImportOnly,
	}
	if k.level == kmspb.ProtectionLevel_PROTECTION_LEVEL_UNSPECIFIED {
		k.level = kmspb.ProtectionLevel_SOFTWARE
	}
	if d := spec.DestroyScheduledDuration; d != nil {
		k.destroyAfter = d.AsDuration()
	}
	if !req.SkipInitialVersionCreation {
		if err := k.generates(ctx); err != nil {
			return nil, err
		}
		v, err := k.addVersion(k.created, s.generation)
		if err != nil {
			return nil, err
		}
		if symmetric {
			k.primary = v
		}
	}
	s.keys[name] = k
	return k.proto(), nil
}

func (s *service) GetCryptoKey(ctx context.Context, req *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	return onKey(ctx, s, "name", req.Name, "cloudkms.cryptoKeys.get", func(k *cryptoKey) (*kmspb.CryptoKey, error) {
		return k.proto(), nil
	})
}

// onKey does something with the key called name, if the caller has permission. The
// server is locked meanwhile. field is where the request names the key.
func onKey[T any](ctx context.Context, s *service, field, name, permission string, do func(*cryptoKey) (T, error)) (out T, err error) {
	if _, _, ok := splitKey(name); !ok {
		return out, badName(field)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(ctx, permission, name); err != nil {
		return out, err
	}
	k, err := s.findKey(name)
	if err != nil {
		return out, err
	}
	return do(k)
}

func (s *service) CreateCryptoKeyVersion(ctx context.Context, req *kmspb.CreateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return onKey(ctx, s, "parent", req.Parent, "cloudkms.cryptoKeyVersions.create", func(k *cryptoKey) (*kmspb.CryptoKeyVersion, error) {
		if err := k.generates(ctx); err != nil {
			return nil, err
		}
		v, err := k.addVersion(time.Now(), s.generation)
		if err != nil {
			return nil, err
		}
		return v.proto(), nil
	})
}

// generates says why Cloud KMS does not generate versions of k by itself, or nil.
// The operator's shortcuts do it all the same.
func (k *cryptoKey) generates(ctx context.Context) error {
	switch who, _ := ctx.Value(callerKey{}).(caller); {
	case who.operator:
	case k.importOnly:
		return status.Errorf(codes.FailedPrecondition, "%s takes imported versions only.", k.name)
	case k.level == kmspb.ProtectionLevel_EXTERNAL || k.level == kmspb.ProtectionLevel_EXTERNAL_VPC:
		return status.Error(codes.InvalidArgument, "The field crypto_key_version.external_protection_level_options is required, which this server does not take.")
	}
	return nil
}

func (s *service) UpdateCryptoKeyPrimaryVersion(ctx context.Context, req *kmspb.UpdateCryptoKeyPrimaryVersionRequest) (*kmspb.CryptoKey, error) {
	return onKey(ctx, s, "name", req.Name, "cloudkms.cryptoKeys.update", func(k *cryptoKey) (*kmspb.CryptoKey, error) {
		if k.purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT {
			return nil, status.Errorf(codes.FailedPrecondition, "%s has the purpose %s, which knows no primary version.", k.name, k.purpose)
		}
		v, err := s.findVersion(req.Name + "/cryptoKeyVersions/" + req.CryptoKeyVersionId)
		if err != nil {
			return nil, err
		}
		k.primary = v
		return k.proto(), nil
	})
}

// onVersion changes the version called name, if the caller has permission.
func (s *service) onVersion(ctx context.Context, name, permission string, change func(*version) error) (*kmspb.CryptoKeyVersion, error) {
	if _, _, ok := splitVersion(name); !ok {
		return nil, badName("name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.allowed(ctx, permission, name); err != nil {
		return nil, err
	}
	v, err := s.findVersion(name)
	if err != nil {
		return nil, err
	}
	if err := change(v); err != nil {
		return nil, err
	}
	return v.proto(), nil
}

func (v *version) in(states ...kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
	if slices.Contains(states, v.state) {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "%s is in the state %s, which does not allow this.", v.name(), v.state)
}

func (s *service) GetCryptoKeyVersion(ctx context.Context, req *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.onVersion(ctx, req.Name, "cloudkms.cryptoKeyVersions.get", func(*version) error { return nil })
}

func (s *service) UpdateCryptoKeyVersion(ctx context.Context, req *kmspb.UpdateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	const enabled, disabled = kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED
	to := req.CryptoKeyVersion.GetState()
	if paths := req.UpdateMask.GetPaths(); len(paths) != 1 || paths[0] != "state" {
		return nil, status.Error(codes.InvalidArgument, "The field update_mask must name state, and nothing else here.")
	}
	if to != enabled && to != disabled {
		return nil, status.Error(codes.InvalidArgument, "The field crypto_key_version.state can be set to ENABLED or DISABLED only.")
	}
	return s.onVersion(ctx, req.CryptoKeyVersion.Name, "cloudkms.cryptoKeyVersions.update", func(v *version) error {
		if err := v.in(enabled, disabled); err != nil {
			return err
		}
		v.state = to
		return nil
	})
}

func (s *service) DestroyCryptoKeyVersion(ctx context.Context, req *kmspb.DestroyCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.onVersion(ctx, req.Name, "cloudkms.cryptoKeyVersions.destroy", func(v *version) error {
		if err := v.in(kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED); err != nil {
			return err
		}
		now := time.Now()
		v.state, v.destroyAt = kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, now.Add(v.key.destroyAfter)
		v.settle(now)
		return nil
	})
}

func (s *service) RestoreCryptoKeyVersion(ctx context.Context, req *kmspb.RestoreCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.onVersion(ctx, req.Name, "cloudkms.cryptoKeyVersions.restore", func(v *version) error {
		if err := v.in(kmspb.CryptoKeyVersion_DESTROY_SCHEDULED); err != nil {
			return err
		}
		v.state = kmspb.CryptoKeyVersion_DISABLED
		return nil
	})
}

func (s *service) ListCryptoKeyVersions(ctx context.Context, req *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	if req.Filter != "" || req.OrderBy != "" {
		return nil, status.Error(codes.Unimplemented, "This server neither filters nor sorts.")
	}
	from := 0
	if req.PageToken != "" {
		n, err := strconv.Atoi(req.PageToken)
		if err != nil || n < 0 {
			return nil, status.Error(codes.InvalidArgument, "The field page_token is invalid.")
		}
		from = n
	}
	size := int(req.PageSize)
	if size <= 0 || size > 1000 {
		size = 1000
	}
	return onKey(ctx, s, "parent", req.Parent, "cloudkms.cryptoKeyVersions.list", func(k *cryptoKey) (*kmspb.ListCryptoKeyVersionsResponse, error) {
		all := k.versions
		from = min(from, len(all))
		to := min(from+size, len(all))
		resp := &kmspb.ListCryptoKeyVersionsResponse{TotalSize: int32(min(len(all), 1<<30))}
		for _, v := range all[from:to] {
			resp.CryptoKeyVersions = append(resp.CryptoKeyVersions, v.proto())
		}
		if to < len(all) {
			resp.NextPageToken = strconv.Itoa(to)
		}
		return resp, nil
	})
}
