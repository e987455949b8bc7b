package awskms

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// The limits of the API reference, in bytes and days.
const (
	maxPlaintext      = 4096
	maxCiphertext     = 6144
	maxContext        = 8192 // of an encryption context, names and values together
	minPendingDays    = 7
	maxPendingDays    = 30
	maxRotationsAsked = 25 // on-demand rotations of one key
)

// call is one request that has been authenticated. The server is locked.
type call struct {
	server    *Server
	who       *identity
	region    string
	operation string
}

// operation answers a request, or fails with an *apiError.
type operation func(c *call, body []byte) (any, error)

func operations() map[string]operation {
	return map[string]operation{
		"Encrypt": handle((*call).encrypt), "Decrypt": handle((*call).decrypt), "ReEncrypt": handle((*call).reEncrypt),
		"GenerateDataKey": handle((*call).generateDataKey), "GenerateDataKeyWithoutPlaintext": handle((*call).generateDataKeyWithoutPlaintext),
		"CreateKey": handle((*call).createKey), "ListKeys": handle((*call).listKeys), "ListAliases": handle((*call).listAliases), "DeleteAlias": handle((*call).deleteAlias),
		"DescribeKey": onKey("kms:DescribeKey", describeKey), "CreateAlias": onKey("kms:CreateAlias", createAlias), "UpdateAlias": onKey("kms:UpdateAlias", updateAlias),
		"EnableKey": onKey("kms:EnableKey", switchTo(Enabled)), "DisableKey": onKey("kms:DisableKey", switchTo(Disabled)),
		"ScheduleKeyDeletion": handle((*call).scheduleKeyDeletion), "CancelKeyDeletion": onKey("kms:CancelKeyDeletion", cancelKeyDeletion),
		"RotateKeyOnDemand": onKey("kms:RotateKeyOnDemand", rotateKeyOnDemand), "ListKeyRotations": onKey("kms:ListKeyRotations", listKeyRotations),
		"GetKeyRotationStatus": onKey("kms:GetKeyRotationStatus", getKeyRotationStatus),
		"EnableKeyRotation":    handle((*call).enableKeyRotation), "DisableKeyRotation": handle((*call).disableKeyRotation),
	}
}

// handle parses the input of a method.
func handle[In any](method func(*call, *In) (any, error)) operation {
	return func(c *call, body []byte) (any, error) {
		in := new(In)
		if err := json.Unmarshal(body, in); err != nil {
			return nil, fail("SerializationException", "the input cannot be parsed")
		}
		return method(c, in)
	}
}

// onKey parses the input of an operation on one key, and finds the key.
func onKey[In interface{ key() string }](action string, do func(c *call, k *Key, in *In) (any, error)) operation {
	return handle(func(c *call, in *In) (any, error) {
		k, err := c.find((*in).key(), action, nil)
		if err != nil {
			return nil, err
		}
		return do(c, k, in)
	})
}

// rehearsed is how AWS KMS says that a request with DryRun would have succeeded.
func rehearsed() error {
	return fail("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

type encryptInput struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	DryRun              bool
}

type encryptAnswer struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm string
}

func (c *call) encrypt(in *encryptInput) (any, error) {
	if len(in.Plaintext) == 0 || len(in.Plaintext) > maxPlaintext {
		return nil, fail("ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length between 1 and 4096")
	}
	k, err := c.usable(in.KeyID, "kms:Encrypt", in.EncryptionAlgorithm, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, rehearsed()
	}
	blob, err := k.encrypt(in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &encryptAnswer{CiphertextBlob: blob, KeyID: k.ARN(), EncryptionAlgorithm: SpecSymmetric}, nil
}

type decryptInput struct {
	KeyID               string `json:"KeyId"`
	CiphertextBlob      []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	DryRun              bool
	DryRunModifiers     []string
}

type decryptAnswer struct {
	Plaintext           []byte
	KeyID               string `json:"KeyId"`
	KeyMaterialID       string `json:"KeyMaterialId"`
	EncryptionAlgorithm string
}

func (c *call) decrypt(in *decryptInput) (any, error) {
	if in.DryRun && isOneOf("IGNORE_CIPHERTEXT", in.DryRunModifiers...) {
		if _, err := c.usable(in.KeyID, "kms:Decrypt", in.EncryptionAlgorithm, in.EncryptionContext); err != nil {
			return nil, err
		}
		return nil, rehearsed()
	}
	k, plaintext, m, err := c.open(in.KeyID, "kms:Decrypt", in.EncryptionAlgorithm, in.CiphertextBlob, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, rehearsed()
	}
	return &decryptAnswer{Plaintext: plaintext, KeyID: k.ARN(), KeyMaterialID: hex.EncodeToString(m.id[:]), EncryptionAlgorithm: SpecSymmetric}, nil
}

// open decrypts blob with the key that keyID names, or, without one, with the
// key that the blob names, as AWS does.
func (c *call) open(keyID, action, algorithm string, blob []byte, ec map[string]string) (*Key, []byte, *material, error) {
	if len(blob) == 0 || len(blob) > maxCiphertext {
		return nil, nil, nil, fail("ValidationException", "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length between 1 and 6144")
	}
	if keyID == "" {
		for name, k := range c.server.keys {
			if name.region == c.region && wrote(blob) && k.owns(blob) {
				keyID = k.id
			}
		}
		if keyID == "" {
			return nil, nil, nil, fail("InvalidCiphertextException", "")
		}
	}
	k, err := c.usable(keyID, action, algorithm, ec)
	switch {
	case err != nil:
		return nil, nil, nil, err
	case !wrote(blob):
		return nil, nil, nil, fail("InvalidCiphertextException", "")
	case !k.owns(blob):
		return nil, nil, nil, fail("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	plaintext, m, err := k.decrypt(blob, ec)
	return k, plaintext, m, err
}

type reEncryptInput struct {
	CiphertextBlob                 []byte
	SourceKeyID                    string `json:"SourceKeyId"`
	SourceEncryptionContext        map[string]string
	SourceEncryptionAlgorithm      string
	DestinationKeyID               string `json:"DestinationKeyId"`
	DestinationEncryptionContext   map[string]string
	DestinationEncryptionAlgorithm string
	DryRun                         bool
}

type reEncryptAnswer struct {
	CiphertextBlob                 []byte
	SourceKeyID                    string `json:"SourceKeyId"`
	KeyID                          string `json:"KeyId"`
	SourceEncryptionAlgorithm      string
	DestinationEncryptionAlgorithm string
	SourceKeyMaterialID            string `json:"SourceKeyMaterialId"`
	DestinationKeyMaterialID       string `json:"DestinationKeyMaterialId"`
}

func (c *call) reEncrypt(in *reEncryptInput) (any, error) {
	from, plaintext, material, err := c.open(in.SourceKeyID, "kms:ReEncryptFrom", in.SourceEncryptionAlgorithm, in.CiphertextBlob, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	to, err := c.usable(in.DestinationKeyID, "kms:ReEncryptTo", in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, rehearsed()
	}
	blob, err := to.encrypt(plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	return &reEncryptAnswer{
		CiphertextBlob: blob, SourceKeyID: from.ARN(), KeyID: to.ARN(),
		SourceEncryptionAlgorithm: SpecSymmetric, DestinationEncryptionAlgorithm: SpecSymmetric,
		SourceKeyMaterialID: hex.EncodeToString(material.id[:]), DestinationKeyMaterialID: to.currentMaterial(),
	}, nil
}

// find returns the key that a key ID, key ARN, alias or alias ARN names in the Region of
// the request, and checks the permission to use it.
func (c *call) find(name, action string, ec map[string]string) (*Key, error) {
	if name == "" {
		return nil, fail("ValidationException", "1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must not be null")
	}
	short, account := name, c.who.account()
	if rest, ok := strings.CutPrefix(name, "arn:"); ok {
		parts := strings.SplitN(rest, ":", 5) // aws:kms:REGION:ACCOUNT:key/ID
		if len(parts) != 5 || parts[1] != "kms" || parts[2] != c.region {
			return nil, fail("NotFoundException", "Invalid arn "+c.region)
		}
		short, account = strings.TrimPrefix(parts[4], "key/"), parts[3]
	}
	k := c.server.keys[keyName{c.region, short}]
	if strings.HasPrefix(short, "alias/") {
		switch {
		case takesAliases(action):
		case short == name:
			return nil, fail("NotFoundException", "Invalid keyId "+name)
		default:
			return nil, fail("InvalidArnException", "Invalid arn "+name)
		}
		k = c.server.aliases[keyName{c.region, short}]
	}
	if k != nil && k.spec.Account != account {
		k = nil
	}
	stranger := account != c.who.account()
	switch {
	case k == nil && (stranger || !c.who.allows(action, "", nil)): // AWS does not show strangers what exists
		return nil, c.forbidden(action)
	case k == nil:
		return nil, fail("NotFoundException", "Key '"+name+"' does not exist")
	case stranger && (!k.spec.Shared || !acrossAccounts(action)):
		return nil, c.forbidden(action)
	case !c.who.allows(action, k.ARN(), ec) || c.server.denied[denial{action, k}] || c.server.denied[denial{action, nil}]:
		return nil, c.forbidden(action)
	}
	k.settle()
	return k, nil
}

// acrossAccounts reports whether an action can be permitted to another account,
// as the API reference says of each operation.
func acrossAccounts(action string) bool {
	return action == "kms:GetKeyRotationStatus" || action != "kms:DeleteAlias" && takesAliases(action)
}

// takesAliases reports whether an operation's key may be named by an alias, as the
// API reference says of each. Those that manage a key want its ID or ARN.
func takesAliases(action string) bool {
	return isOneOf(action, "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey",
		"kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DeleteAlias")
}

func (c *call) forbidden(action string) error {
	return fail("AccessDeniedException", "User: "+c.who.arn+" is not authorized to perform: "+action+" because no identity-based policy allows it")
}

// usable finds a key for a cryptographic operation and checks that it does it.
func (c *call) usable(name, action, algorithm string, ec map[string]string) (*Key, error) {
	size := 0
	for name, value := range ec {
		if name == "" || value == "" {
			return nil, fail("ValidationException", "the encryption context holds an empty name or value")
		}
		size += len(name) + len(value)
	}
	if size > maxContext {
		return nil, fail("ValidationException", "the encryption context is too long")
	}
	k, err := c.find(name, action, ec)
	if err != nil {
		return nil, err
	}
	switch {
	case k.state == Disabled:
		return nil, fail("DisabledException", k.ARN()+" is disabled.")
	case k.state != Enabled && k.state != Updating:
		return nil, fail("KMSInvalidStateException", k.ARN()+" is "+k.state+".")
	case k.spec.Spec != SpecSymmetric || k.spec.Usage != "ENCRYPT_DECRYPT":
		return nil, fail("InvalidKeyUsageException", k.ARN()+" key usage is "+k.spec.Usage+" which is not valid for "+c.operation+" with the algorithm.")
	case algorithm != "" && algorithm != SpecSymmetric:
		return nil, fail("InvalidKeyUsageException", "the algorithm does not fit the key spec.")
	}
	return k, nil
}

// seconds is how AWS JSON 1.1 writes a time.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// isOneOf reports whether s is one of all.
func isOneOf(s string, all ...string) bool { return slices.Contains(all, s) }
