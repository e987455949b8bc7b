package guard

import (
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/codec/internal/sealed"
)

// SealedStorage returns external storage in which the SDK stores only sealed payloads. The SDK
// stores a payload before the guard sees it. So a payload that is not sealed, such as a header
// of a context propagator, stays in the request, where the guard seals or refuses it. Where the
// namespace requires payloads to be sealed, a driver also returns only sealed payloads: the
// server names the blobs to retrieve.
func SealedStorage(c Codec, namespace string, s converter.ExternalStorage) converter.ExternalStorage {
	if len(s.Drivers) == 0 || len(s.Drivers) > 1 && s.DriverSelector == nil {
		return s // none, or options that the SDK refuses
	}
	selector := &sealedSelector{parent: s.DriverSelector}
	for _, d := range s.Drivers {
		selector.drivers = append(selector.drivers, &sealedDriver{StorageDriver: d, codec: c, namespace: namespace})
	}
	s.Drivers, s.DriverSelector = selector.drivers, selector
	return s
}

// sealedSelector leaves plaintext payloads in the request.
type sealedSelector struct {
	parent  converter.StorageDriverSelector // nil if there is one driver, which stores all
	drivers []converter.StorageDriver
}

// SelectDriver implements converter.StorageDriverSelector.
func (s *sealedSelector) SelectDriver(ctx converter.StorageDriverSelectContext, p *commonpb.Payload) (converter.StorageDriver, error) {
	if !sealed.WellFormed(p) {
		return nil, nil //nolint:nilnil // nil has the SDK leave the payload where it is
	}
	if s.parent == nil {
		return s.drivers[0], nil
	}
	selected, err := s.parent.SelectDriver(ctx, p)
	if err != nil || selected == nil {
		return nil, err
	}
	for _, d := range s.drivers {
		if d.Name() == selected.Name() {
			return d, nil
		}
	}
	return selected, nil // the SDK refuses a driver that is not in the list
}

// sealedDriver returns no plaintext payload where the namespace requires payloads to be sealed.
type sealedDriver struct {
	converter.StorageDriver
	codec     Codec
	namespace string
}

// Retrieve implements converter.StorageDriver.
func (d *sealedDriver) Retrieve(ctx converter.StorageDriverRetrieveContext, claims []converter.StorageDriverClaim) ([]*commonpb.Payload, error) {
	payloads, err := d.StorageDriver.Retrieve(ctx, claims)
	if err != nil || !d.codec.Policy().RequiresSealed(d.namespace) {
		return payloads, err
	}
	for _, p := range payloads {
		if !sealed.WellFormed(p) {
			return nil, sealed.Required("open payload", "a payload in external storage is not sealed",
				"look for what stores payloads without this plugin; if it is from before the migration, turn requireSealed off until it is gone")
		}
	}
	return payloads, nil
}

// DriverNames returns the names of the drivers; nil if there are none.
func DriverNames(s converter.ExternalStorage) (names map[string]bool) {
	for _, d := range s.Drivers {
		if names == nil {
			names = make(map[string]bool, len(s.Drivers))
		}
		names[d.Name()] = true
	}
	return names
}
