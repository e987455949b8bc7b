package kmstest

import "time"

// Power is something that not every backend's tests can do to a key, or to its
// KMS. One that they cannot is named in Harness.Lacks, with the reason.
type Power string

const (
	// PowerOther is having a second key: Harness.OtherKey.
	PowerOther Power = "other key"
	// PowerRotate is making a new version of a key: Harness.Rotate.
	PowerRotate Power = "rotate"
	// PowerDisable is switching a key off and on: Harness.Disable and Harness.Enable.
	PowerDisable Power = "disable"
	// PowerDisableVersion is switching off one version of a key: Harness.DisableVersion.
	PowerDisableVersion Power = "disable version"
	// PowerDestroyVersion is destroying one version of a key: Harness.DestroyVersion.
	PowerDestroyVersion Power = "destroy version"
	// PowerPendingDeletion is having a key wait for its deletion: Harness.ScheduleDeletion.
	PowerPendingDeletion Power = "pending deletion"
	// PowerHasty is having a handle with a short timeout of its own: Harness.Hasty.
	PowerHasty Power = "short timeout"
)

// Powers of the key itself: found by kms.As, and lacked where a KMS has nothing
// of the kind.
const (
	// PowerRewrapper is being a kms.Rewrapper.
	PowerRewrapper Power = "rewrapper"
	// PowerRotator is being a kms.Rotator.
	PowerRotator Power = "rotator"
	// PowerRetirer is being a kms.Retirer.
	PowerRetirer Power = "retirer"
	// PowerProber is being a kms.Prober.
	PowerProber Power = "prober"
)

// Fault powers: what can be made to go wrong between us and a KMS, through
// Harness.Faults.
const (
	// FaultDenied: our identity may not use the key.
	FaultDenied Power = "denied"
	// FaultThrottled: the KMS refuses for quota and does not say for how long.
	FaultThrottled Power = "throttled"
	// FaultThrottledFor: likewise, and says to come back in ThrottledFor.
	FaultThrottledFor Power = "throttled for a time"
	// FaultExpired: our credentials have expired and cannot be renewed.
	FaultExpired Power = "expired credentials"
	// FaultDown: nothing listens at the KMS's address, or nothing can be read there.
	FaultDown Power = "down"
	// FaultServerError: the KMS answers that it has a problem (HTTP 500, gRPC INTERNAL).
	FaultServerError Power = "server error"
	// FaultStall: the KMS takes the request, or sends headers, and then nothing more.
	FaultStall Power = "stall"
	// FaultReset: the connection breaks in the middle of the answer.
	FaultReset Power = "reset"
	// FaultNotTheKMS: something on the way answers in the KMS's place, such as a login page.
	FaultNotTheKMS Power = "not the KMS"
	// FaultWrongKey: the answer says that another key did it.
	FaultWrongKey Power = "wrong key"
	// FaultShortPlaintext: an unwrap answers with fewer bytes than a data key has.
	FaultShortPlaintext Power = "short plaintext"
	// FaultRequestDamaged: the KMS says that what it received fails its checksum.
	FaultRequestDamaged Power = "request damaged"
	// FaultAnswerDamaged: what comes back fails its checksum, or its integrity otherwise.
	FaultAnswerDamaged Power = "answer damaged"
	// FaultHugeAnswer: the answer is of many megabytes.
	FaultHugeAnswer Power = "huge answer"
)

// ThrottledFor is how long FaultThrottledFor says to wait.
const ThrottledFor = 7 * time.Second

// faultPowers returns every fault, in the order they are declared.
func faultPowers() []Power {
	return []Power{
		FaultDenied, FaultThrottled, FaultThrottledFor, FaultExpired, FaultDown, FaultServerError, FaultStall,
		FaultReset, FaultNotTheKMS, FaultWrongKey, FaultShortPlaintext, FaultRequestDamaged, FaultAnswerDamaged, FaultHugeAnswer,
	}
}
