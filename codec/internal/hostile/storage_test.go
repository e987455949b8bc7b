package hostile

import (
	"fmt"
	"strconv"
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
)

// storage is the external storage of a lane. The adversary reads and writes it freely.
type storage struct {
	lane *lane
	mu   sync.Mutex
	all  []*commonpb.Payload
}

var _ converter.StorageDriver = (*storage)(nil)

const (
	storageName = "storage"
	claimKey    = "n"
)

// Name implements converter.StorageDriver.
func (*storage) Name() string { return storageName }

// Type implements converter.StorageDriver.
func (*storage) Type() string { return "memory" }

// Store implements converter.StorageDriver. Its payloads leave the program.
func (s *storage) Store(ctx converter.StorageDriverStoreContext, payloads []*commonpb.Payload) (claims []converter.StorageDriverClaim, err error) {
	for _, p := range payloads {
		err := ctx.Limiter.Permit(ctx.Context, p, func() error {
			s.lane.adversary.leaves(s.lane, "external storage", p)
			claims = append(claims, converter.StorageDriverClaim{ClaimData: map[string]string{claimKey: s.put(p)}})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return claims, nil
}

// put stores a payload, and returns its name.
func (s *storage) put(p *commonpb.Payload) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p)
	return strconv.Itoa(len(s.all) - 1)
}

// Retrieve implements converter.StorageDriver.
func (s *storage) Retrieve(ctx converter.StorageDriverRetrieveContext, claims []converter.StorageDriverClaim) (out []*commonpb.Payload, err error) {
	for _, claim := range claims {
		err := ctx.Limiter.Permit(ctx.Context, claim, func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			n, err := strconv.Atoi(claim.ClaimData[claimKey])
			if err != nil || n < 0 || n >= len(s.all) {
				return fmt.Errorf("no blob has this number: %w", err)
			}
			out = append(out, s.all[n])
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reference names a blob that the adversary chooses: a plaintext one, or one that an honest
// program stored.
func (s *storage) reference(m *means) *commonpb.Payload {
	s.mu.Lock()
	stored := len(s.all)
	s.mu.Unlock()
	claim := "none"
	switch m.r.IntN(3) {
	case 0:
		claim = s.put(m.plaintext())
	case 1:
		if stored > 0 {
			claim = strconv.Itoa(m.r.IntN(stored))
		}
	}
	return &commonpb.Payload{
		Metadata:         map[string][]byte{"encoding": []byte("json/protobuf"), "messageType": []byte("temporal.api.sdk.v1.ExternalStorageReference")},
		Data:             fmt.Appendf(nil, `{"driverName":%q,"claimData":{%q:%q}}`, storageName, claimKey, claim),
		ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 1}},
	}
}
