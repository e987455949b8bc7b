package awskms

import (
	"strings"
	"time"
)

type keyInput struct {
	KeyID string `json:"KeyId"`
}

func (in keyInput) key() string { return in.KeyID }

type keyMetadata struct {
	AWSAccountID             string `json:"AWSAccountId"`
	KeyID                    string `json:"KeyId"`
	Arn                      string
	CreationDate             float64
	DeletionDate             float64 `json:",omitempty"`
	Enabled                  bool
	Description              string
	KeyUsage                 string
	KeyState                 string
	Origin                   string
	KeyManager               string
	KeySpec                  string
	CustomerMasterKeySpec    string
	EncryptionAlgorithms     []string `json:",omitempty"`
	MultiRegion              bool
	MultiRegionConfiguration *multiRegion `json:",omitempty"`
	CurrentKeyMaterialID     string       `json:"CurrentKeyMaterialId,omitempty"`

	CustomKeyStoreID string  `json:"CustomKeyStoreId,omitempty"`
	ExpirationModel  string  `json:",omitempty"`
	ValidTo          float64 `json:",omitempty"`

	PendingDeletionWindowInDays int `json:",omitempty"`
}

type multiRegion struct {
	MultiRegionKeyType string
	PrimaryKey         regional
	ReplicaKeys        []regional
}

type regional struct{ Arn, Region string }

func describeKey(_ *call, k *Key, _ *keyInput) (any, error) {
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

func (k *Key) metadata() *keyMetadata {
	m := &keyMetadata{
		AWSAccountID: k.spec.Account, Description: k.description, KeyID: k.id, Arn: k.ARN(), CreationDate: seconds(k.created), Enabled: k.state == Enabled,
		KeyUsage: k.spec.Usage, KeyState: k.state, Origin: "AWS_KMS", KeyManager: "CUSTOMER",
		KeySpec: k.spec.Spec, CustomerMasterKeySpec: k.spec.Spec, MultiRegion: k.spec.MultiRegion,
	}
	if k.spec.AWSManaged {
		m.KeyManager = "AWS"
	}
	if k.state == PendingDeletion {
		m.DeletionDate = seconds(k.deletion)
	}
	if k.state == PendingReplicaDeletion {
		m.PendingDeletionWindowInDays = k.window
	}
	if k.spec.Spec == SpecSymmetric {
		m.EncryptionAlgorithms = []string{SpecSymmetric}
	}
	if k.rotatable() {
		m.CurrentKeyMaterialID = k.currentMaterial()
	}
	if k.spec.CustomKeyStore {
		m.Origin, m.CustomKeyStoreID = "AWS_CLOUDHSM", "cks-1234567890abcdef0"
	}
	if !k.spec.ImportedUntil.IsZero() {
		m.Origin, m.ExpirationModel, m.ValidTo = "EXTERNAL", "KEY_MATERIAL_EXPIRES", seconds(k.spec.ImportedUntil)
	}
	if k.spec.MultiRegion {
		p := k.shared.primary
		m.MultiRegionConfiguration = &multiRegion{MultiRegionKeyType: "REPLICA", PrimaryKey: regional{p.ARN(), p.region}, ReplicaKeys: []regional{}}
		if k == p {
			m.MultiRegionConfiguration.MultiRegionKeyType = "PRIMARY"
		}
		for _, r := range k.shared.replicas {
			m.MultiRegionConfiguration.ReplicaKeys = append(m.MultiRegionConfiguration.ReplicaKeys, regional{r.ARN(), r.region})
		}
	}
	return m
}

type aliasInput struct {
	AliasName   string
	TargetKeyID string `json:"TargetKeyId"`
}

func (in aliasInput) key() string { return in.TargetKeyID }

func createAlias(c *call, k *Key, in *aliasInput) (any, error) {
	switch name := (keyName{c.region, in.AliasName}); {
	case !strings.HasPrefix(in.AliasName, "alias/") || strings.HasPrefix(in.AliasName, "alias/aws/"):
		return nil, fail("InvalidAliasNameException", "Alias must start with the prefix \"alias/\" and must not be of aws")
	case c.server.aliases[name] != nil:
		return nil, fail("AlreadyExistsException", "An alias with the name already exists")
	default:
		c.server.aliases[name] = k
	}
	return struct{}{}, nil
}

func updateAlias(c *call, k *Key, in *aliasInput) (any, error) {
	name := keyName{c.region, in.AliasName}
	if c.server.aliases[name] == nil {
		return nil, fail("NotFoundException", "Alias is not found.")
	}
	c.server.aliases[name] = k
	return struct{}{}, nil
}

func switchTo(state string) func(*call, *Key, *keyInput) (any, error) {
	return func(_ *call, k *Key, _ *keyInput) (any, error) {
		if !isOneOf(k.state, Enabled, Disabled) {
			return nil, fail("KMSInvalidStateException", k.ARN()+" is "+k.state+".")
		}
		k.state = state
		return struct{}{}, nil
	}
}

type deletionInput struct {
	keyInput
	PendingWindowInDays *int
}

func (c *call) scheduleKeyDeletion(in *deletionInput) (any, error) {
	days := maxPendingDays
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < minPendingDays || days > maxPendingDays {
		return nil, fail("ValidationException", "1 validation error detected: Value at 'pendingWindowInDays' failed to satisfy constraint: between 7 and 30")
	}
	k, err := c.find(in.KeyID, "kms:ScheduleKeyDeletion", nil)
	if err != nil {
		return nil, err
	}
	if !isOneOf(k.state, Enabled, Disabled, PendingImport, Unavailable) {
		return nil, fail("KMSInvalidStateException", k.ARN()+" is "+k.state+".")
	}
	if k == k.shared.primary && len(k.shared.replicas) > 0 {
		k.state, k.window = PendingReplicaDeletion, days
		return map[string]any{"KeyId": k.ARN(), "KeyState": k.state, "PendingWindowInDays": days}, nil
	}
	k.state, k.deletion = PendingDeletion, time.Now().AddDate(0, 0, days)
	return map[string]any{"KeyId": k.ARN(), "DeletionDate": seconds(k.deletion), "KeyState": k.state, "PendingWindowInDays": days}, nil
}

func cancelKeyDeletion(_ *call, k *Key, _ *keyInput) (any, error) {
	if !isOneOf(k.state, PendingDeletion, PendingReplicaDeletion) {
		return nil, fail("KMSInvalidStateException", k.ARN()+" is not pending deletion.")
	}
	k.state = Disabled // as AWS leaves it
	return map[string]any{"KeyId": k.ARN()}, nil
}
