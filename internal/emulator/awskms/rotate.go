package awskms

import (
	"encoding/hex"
	"time"
)

// SetRotationTime makes rotations on demand take d from now on; meanwhile the key wraps
// with its old material, as at AWS, where they complete in the background. By default they
// take no time.
func (s *Server) SetRotationTime(d time.Duration) {
	s.locked(func() { s.rotationTime = d })
}

func rotateKeyOnDemand(_ *call, k *Key, _ *keyInput) (any, error) {
	if err := k.rotates(); err != nil {
		return nil, err
	}
	if !k.shared.started.IsZero() {
		return nil, fail("ConflictException", "a rotation of the key is under way.")
	}
	asked := 0
	for _, m := range k.shared.materials {
		if m.asked {
			asked++
		}
	}
	if asked >= maxRotationsAsked {
		return nil, fail("LimitExceededException", "the key was rotated on demand as often as can be.")
	}
	k.shared.started = time.Now()
	k.settle()
	return map[string]any{"KeyId": k.ARN()}, nil
}

// rotates says why rotation of the key cannot be started or scheduled, or nil.
func (k *Key) rotates() error {
	switch {
	case k.state == Disabled:
		return fail("DisabledException", k.ARN()+" is disabled.")
	case k.state != Enabled:
		return fail("KMSInvalidStateException", k.ARN()+" is "+k.state+".")
	case !k.rotatable() || k != k.shared.primary || !k.spec.ImportedUntil.IsZero():
		return fail("UnsupportedOperationException", "only symmetric keys, and of multi-Region keys the primary, are rotated.")
	}
	return nil
}

type rotationsInput struct {
	listInput
	IncludeKeyMaterial string
}

type rotation struct {
	KeyID            string  `json:"KeyId"`
	KeyMaterialID    string  `json:"KeyMaterialId"`
	KeyMaterialState string  `json:",omitempty"`
	RotationDate     float64 `json:",omitempty"`
	RotationType     string  `json:",omitempty"`
	ExpirationModel  string  `json:",omitempty"`
	ImportState      string  `json:",omitempty"`
	ValidTo          float64 `json:",omitempty"`
}

func listKeyRotations(_ *call, k *Key, in *rotationsInput) (any, error) {
	if !k.rotatable() {
		return nil, notRotatable()
	}
	all := []rotation{}
	for i := range k.shared.materials {
		all = append(all, k.rotation(i))
	}
	switch in.IncludeKeyMaterial {
	case "", "ROTATIONS_ONLY":
		all = all[1:]
	case "ALL_KEY_MATERIAL":
	default:
		return nil, fail("ValidationException", "1 validation error detected: Value at 'includeKeyMaterial' failed to satisfy constraint: an enum value")
	}
	return page(&in.listInput, "Rotations", all)
}

// rotation describes one material.
func (k *Key) rotation(i int) rotation {
	m := k.shared.materials[i]
	r := rotation{KeyID: k.ARN(), KeyMaterialID: hex.EncodeToString(m.id[:]), KeyMaterialState: "NON_CURRENT"}
	if i == len(k.shared.materials)-1 {
		r.KeyMaterialState = "CURRENT"
	}
	if i > 0 {
		r.RotationDate, r.RotationType = seconds(m.rotated), "AUTOMATIC"
		if m.asked {
			r.RotationType = "ON_DEMAND"
		}
	}
	if until := k.spec.ImportedUntil; !until.IsZero() {
		r.ExpirationModel, r.ImportState, r.ValidTo = "KEY_MATERIAL_EXPIRES", "IMPORTED", seconds(until)
	}
	return r
}

type rotationStatus struct {
	KeyID                     string `json:"KeyId"`
	KeyRotationEnabled        bool
	RotationPeriodInDays      int     `json:",omitempty"`
	NextRotationDate          float64 `json:",omitempty"`
	OnDemandRotationStartDate float64 `json:",omitempty"`
}

func getKeyRotationStatus(_ *call, k *Key, _ *keyInput) (any, error) {
	if !k.rotatable() {
		return nil, notRotatable()
	}
	status := &rotationStatus{KeyID: k.ARN()}
	if days := k.shared.period; days > 0 && k.state != PendingDeletion {
		last := k.created
		if n := len(k.shared.materials); n > 1 {
			last = k.shared.materials[n-1].rotated
		}
		status.KeyRotationEnabled, status.RotationPeriodInDays, status.NextRotationDate = true, days, seconds(last.AddDate(0, 0, days))
	}
	if began := k.shared.started; !began.IsZero() {
		status.OnDemandRotationStartDate = seconds(began)
	}
	return status, nil
}

func notRotatable() error {
	return fail("UnsupportedOperationException", "only symmetric keys are rotated.")
}

type enableRotationInput struct {
	keyInput
	RotationPeriodInDays *int
}

func (c *call) enableKeyRotation(in *enableRotationInput) (any, error) {
	days := 365
	if in.RotationPeriodInDays != nil {
		days = *in.RotationPeriodInDays
	}
	if days < 90 || days > 2560 {
		return nil, fail("ValidationException", "1 validation error detected: Value at 'rotationPeriodInDays' failed to satisfy constraint: between 90 and 2560")
	}
	return c.setPeriod(in.KeyID, "kms:EnableKeyRotation", days)
}

func (c *call) disableKeyRotation(in *keyInput) (any, error) {
	return c.setPeriod(in.KeyID, "kms:DisableKeyRotation", 0)
}

func (c *call) setPeriod(name, action string, days int) (any, error) {
	k, err := c.find(name, action, nil)
	if err == nil && !k.rotatable() {
		err = notRotatable()
	}
	if err == nil {
		err = k.rotates()
	}
	if err != nil {
		return nil, err
	}
	k.shared.period = days
	return struct{}{}, nil
}
