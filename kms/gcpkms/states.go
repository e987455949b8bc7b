package gcpkms

import (
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// precondition distinguishes the meanings of FAILED_PRECONDITION.
func (k *Key) precondition(c call, st *status.Status) refusal {
	kind, message := violation(st), strings.TrimRight(st.Message(), ".")
	for state := range kmspb.CryptoKeyVersion_CryptoKeyVersionState_value {
		if kind == "KEY_"+state || strings.HasSuffix(message, "current state is: "+state) {
			return k.inState(kmspb.CryptoKeyVersion_CryptoKeyVersionState(kmspb.CryptoKeyVersion_CryptoKeyVersionState_value[state]))
		}
	}
	switch {
	case wrongPurpose(st):
		return k.wrongKind()
	case c.op == driver.OpWrap && strings.Contains(message, "primary"):
		return driver.Refuse(kms.Disabled, "the key has no primary version",
			"make one: "+k.gcloud("kms keys versions create --primary", scopeKey))
	case c.op != driver.OpWrap && c.op != driver.OpUnwrap:
		return driver.Refuse(kms.Disabled, "the present state of the key or its version does not allow that",
			k.gcloud("kms keys versions list", scopeKey)+" shows the states")
	}
	return driver.RefuseItem(kms.Disabled, "the key, or the version that is needed, cannot be used in its present state",
		"check that the key has an enabled primary version; for an external key, what its manager says")
}

// inState says what it means that a version is in a state that is not right.
func (k *Key) inState(state kmspb.CryptoKeyVersion_CryptoKeyVersionState) refusal {
	r := refusal{Class: kms.Disabled, Item: true}
	switch state {
	case kmspb.CryptoKeyVersion_DESTROYED, kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION, kmspb.CryptoKeyVersion_EXTERNAL_DESTRUCTION_FAILED:
		r.Class, r.Detail = kms.NotFound, "the key version that is needed was destroyed"
		r.Advice = "what it wrapped can no longer be opened with this key; open it with another recipient's key, and to seal make an enabled version primary"
	case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
		r.Detail = "the key version that is needed is scheduled for destruction"
		r.Advice = k.gcloud("kms keys versions restore VERSION", scopeKey) + ", and then enable that version"
	case kmspb.CryptoKeyVersion_DISABLED:
		r.Detail = "the key version that is needed is disabled"
		r.Advice = k.gcloud("kms keys versions enable VERSION", scopeKey) + ", or to seal make an enabled version primary"
	case kmspb.CryptoKeyVersion_PENDING_GENERATION, kmspb.CryptoKeyVersion_PENDING_IMPORT:
		r.Detail = "the key version that is needed is still being made or imported"
		r.Advice = "wait until it is enabled; " + k.gcloud("kms keys versions list", scopeKey) + " shows that"
	case kmspb.CryptoKeyVersion_GENERATION_FAILED, kmspb.CryptoKeyVersion_IMPORT_FAILED:
		r.Detail = "the key version that is needed could not be made or imported"
		r.Advice = k.gcloud("kms keys versions describe VERSION", scopeKey) + " says why; make another"
	case kmspb.CryptoKeyVersion_ENABLED:
		r.Detail, r.Advice = "the key version is enabled, which does not allow that", k.gcloud("kms keys versions list", scopeKey)+" shows the states"
	default:
		r.Detail, r.Advice = "the key version is in a state that we do not know", k.gcloud("kms keys versions list", scopeKey)+" shows it"
	}
	return r
}
