package awskms

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Operations for command lines, and for programs that let AWS KMS make their data keys.

type createKeyInput struct {
	Description string
	KeySpec     string
	KeyUsage    string
	MultiRegion bool
	Origin      string
}

func (c *call) createKey(in *createKeyInput) (any, error) {
	switch err := c.may("kms:CreateKey"); {
	case err != nil:
		return nil, err
	case !isOneOf(in.Origin, "", "AWS_KMS"):
		return nil, fail("UnsupportedOperationException", "this server makes key material itself.")
	case !isOneOf(in.KeySpec, "", SpecSymmetric, SpecRSA2048, SpecHMAC256):
		return nil, fail("UnsupportedOperationException", "this server does not know the key spec.")
	case !fits(in.KeySpec, in.KeyUsage):
		return nil, fail("ValidationException", "the key usage does not fit the key spec.")
	}
	k, err := c.server.create(KeySpec{Region: c.region, Account: c.who.account(), Spec: in.KeySpec, Usage: in.KeyUsage, MultiRegion: in.MultiRegion})
	if err != nil {
		return nil, err
	}
	k.description = in.Description
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

// may checks the permission for an action on no key in particular.
func (c *call) may(action string) error {
	if !c.who.allows(action, "*", nil) || c.server.denied[denial{action, nil}] {
		return c.forbidden(action)
	}
	return nil
}

// fits reports whether AWS has keys of this spec for this usage.
func fits(spec, usage string) bool {
	switch spec {
	case SpecRSA2048:
		return isOneOf(usage, "ENCRYPT_DECRYPT", "SIGN_VERIFY")
	case SpecHMAC256:
		return usage == "GENERATE_VERIFY_MAC"
	}
	return isOneOf(usage, "", "ENCRYPT_DECRYPT")
}

type listInput struct {
	keyInput
	Limit  *int
	Marker string
}

// page answers with the part of all that Limit and Marker choose, called name, and
// with the next marker.
func page[T any](in *listInput, name string, all []T) (any, error) {
	limit := 100
	if in.Limit != nil {
		limit = *in.Limit
	}
	from, err := strconv.Atoi("0" + in.Marker)
	switch {
	case limit < 1 || limit > 1000:
		return nil, fail("ValidationException", "1 validation error detected: Value at 'limit' failed to satisfy constraint: between 1 and 1000")
	case err != nil || from > len(all):
		return nil, fail("InvalidMarkerException", "the marker is not one that was given")
	}
	until := min(from+limit, len(all))
	answer := map[string]any{name: all[from:until], "Truncated": until < len(all)}
	if until < len(all) {
		answer["NextMarker"] = strconv.Itoa(until)
	}
	return answer, nil
}

type listedKey struct {
	KeyID  string `json:"KeyId"`
	KeyArn string
}

func (c *call) listKeys(in *listInput) (any, error) {
	if err := c.may("kms:ListKeys"); err != nil {
		return nil, err
	}
	all := []listedKey{}
	for name, k := range c.server.keys {
		if name.region == c.region && k.spec.Account == c.who.account() {
			all = append(all, listedKey{k.id, k.ARN()})
		}
	}
	slices.SortFunc(all, func(a, b listedKey) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return page(in, "Keys", all)
}

type listedAlias struct {
	AliasName   string
	AliasArn    string
	TargetKeyID string `json:"TargetKeyId"`
}

// listAliases lists all aliases of the account, or those of one key.
func (c *call) listAliases(in *listInput) (any, error) {
	err := c.may("kms:ListAliases")
	var only *Key
	if err == nil && in.KeyID != "" {
		only, err = c.find(in.KeyID, "kms:ListAliases", nil)
	}
	if err != nil {
		return nil, err
	}
	all := []listedAlias{}
	for _, name := range slices.SortedFunc(maps.Keys(c.server.aliases), func(a, b keyName) int { return cmp.Compare(a.name, b.name) }) {
		k := c.server.aliases[name]
		if name.region == c.region && k.spec.Account == c.who.account() && (only == nil || k == only) {
			all = append(all, listedAlias{name.name, strings.TrimSuffix(k.ARN(), "key/"+k.id) + name.name, k.id})
		}
	}
	return page(in, "Aliases", all)
}

func (c *call) deleteAlias(in *aliasInput) (any, error) {
	if _, err := c.find(in.AliasName, "kms:DeleteAlias", nil); err != nil {
		return nil, err
	}
	delete(c.server.aliases, keyName{c.region, in.AliasName})
	return struct{}{}, nil
}

type dataKeyInput struct {
	KeyID             string `json:"KeyId"`
	EncryptionContext map[string]string
	KeySpec           string
	NumberOfBytes     int
	DryRun            bool
}

type dataKeyAnswer struct {
	CiphertextBlob []byte
	Plaintext      []byte `json:",omitempty"`
	KeyID          string `json:"KeyId"`
	KeyMaterialID  string `json:"KeyMaterialId"`
}

func (c *call) generateDataKey(in *dataKeyInput) (any, error) {
	return c.newDataKey("kms:GenerateDataKey", in, true)
}

func (c *call) generateDataKeyWithoutPlaintext(in *dataKeyInput) (any, error) {
	return c.newDataKey("kms:GenerateDataKeyWithoutPlaintext", in, false)
}

func (c *call) newDataKey(action string, in *dataKeyInput, show bool) (any, error) {
	size := in.NumberOfBytes
	switch in.KeySpec {
	case "AES_256":
		size += 32
	case "AES_128":
		size += 16
	case "":
	default:
		return nil, fail("ValidationException", "1 validation error detected: Value at 'keySpec' failed to satisfy constraint: an enum value")
	}
	if (in.KeySpec != "") == (in.NumberOfBytes != 0) || size < 1 || size > 1024 {
		return nil, fail("ValidationException", "Please specify either number of bytes, from 1 to 1024, or key spec.")
	}
	k, err := c.usable(in.KeyID, action, "", in.EncryptionContext)
	switch {
	case err != nil:
		return nil, err
	case in.DryRun:
		return nil, rehearsed()
	}
	plaintext := make([]byte, size)
	rand.Read(plaintext) // never fails: crypto/rand ends the process instead
	blob, err := k.encrypt(plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	answer := &dataKeyAnswer{CiphertextBlob: blob, KeyID: k.ARN(), KeyMaterialID: k.currentMaterial()}
	if show {
		answer.Plaintext = plaintext
	}
	return answer, nil
}
