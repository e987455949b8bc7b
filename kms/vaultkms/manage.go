package vaultkms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxVersions is more than a key that rotates every hour has after a century.
const maxVersions = 1_000_000

var (
	_ kms.Rotator = (*Key)(nil)
	_ kms.Retirer = (*Key)(nil)
)

// Rotate implements kms.Rotator.
func (k *Key) Rotate(ctx context.Context) (kms.Version, error) {
	if _, err := k.readKey(ctx, driver.OpRotate); err != nil { // another engine might store what it does not understand
		return kms.Version{}, err
	}
	// Sent once: after a lost answer a second request would make a second version.
	facts, err := k.manage(ctx, driver.OpRotate, "rotate", map[string]int{}, true)
	if err != nil {
		return kms.Version{}, err
	}
	return facts.version(facts.Latest), nil
}

// Versions implements kms.Rotator. Vault shows the creation time of a version only while it
// unwraps.
func (k *Key) Versions(ctx context.Context) ([]kms.Version, error) {
	facts, err := k.readKey(ctx, driver.OpVersions)
	if err != nil {
		return nil, err
	}
	versions := make([]kms.Version, 0, facts.Latest)
	for n := 1; n <= facts.Latest; n++ {
		versions = append(versions, facts.version(n))
	}
	return versions, nil
}

// Disable implements kms.Retirer, by raising min_decryption_version above version,
// and min_encryption_version along with it where that is set. Vault can disable
// only the oldest version that is enabled, and never the one that wraps: others
// are refused with class Invalid. The whole key cannot be disabled.
func (k *Key) Disable(ctx context.Context, version string) error {
	facts, n, err := k.find(ctx, driver.OpDisable, version, "take encrypt and decrypt on it out of the policies, which has the same effect")
	switch {
	case err != nil:
		return err
	case n < facts.MinDecryption:
		return nil
	case n == facts.Latest:
		return k.fail(driver.OpDisable, driver.Refuse(kms.Invalid, "version "+version+" is the one that wraps", "rotate the key first"), nil)
	case n > facts.MinDecryption:
		return k.fail(driver.OpDisable, driver.Refuse(kms.Invalid, fmt.Sprintf("Vault disables the oldest version first, and %d is enabled", facts.MinDecryption),
			"disable the older versions before this one, when nothing needs them"), nil)
	}
	bounds := map[string]int{"min_decryption_version": n + 1}
	if facts.MinEncryption > 0 {
		bounds["min_encryption_version"] = max(facts.MinEncryption, n+1)
	}
	_, err = k.manage(ctx, driver.OpDisable, "config", bounds, false)
	return err
}

// Enable implements kms.Retirer, by lowering min_decryption_version to version.
// Vault can enable only the newest version that is disabled: others are refused
// with class Invalid.
func (k *Key) Enable(ctx context.Context, version string) error {
	facts, n, err := k.find(ctx, driver.OpEnable, version, "give encrypt and decrypt on it back in the policies")
	switch {
	case err != nil:
		return err
	case n >= facts.MinDecryption:
		return nil
	case n < facts.MinDecryption-1:
		return k.fail(driver.OpEnable, driver.Refuse(kms.Invalid, fmt.Sprintf("Vault enables the newest version first, and %d is disabled", facts.MinDecryption-1),
			"enable the newer versions before this one"), nil)
	}
	_, err = k.manage(ctx, driver.OpEnable, "config", map[string]int{"min_decryption_version": n}, false)
	return err
}

// Destroy implements kms.Retirer, by trimming the key. Vault trims at once and
// for good: a wait is refused, and there is no Restore. It can destroy only the
// oldest version there is: others, and those that are not disabled, are refused
// with class Invalid. Trimming demands a min_encryption_version, which is set
// just above version if it is lower or not set.
func (k *Key) Destroy(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
	facts, n, err := k.find(ctx, driver.OpDestroy, version, "delete it with Vault's own tools: deletion_allowed=true, then vault delete "+k.keyPath())
	switch {
	case err != nil:
		return time.Time{}, err
	case wait != 0:
		return time.Time{}, k.fail(driver.OpDestroy, driver.Refuse(kms.Invalid, "Vault destroys a version at once, and cannot be told to wait",
			"wait before you ask: a disabled version can be enabled again"), nil)
	case n >= facts.MinDecryption:
		return time.Time{}, k.fail(driver.OpDestroy, driver.Refuse(kms.Invalid, "version "+version+" is enabled",
			"disable it first, and see whether anything misses it"), nil)
	case n > facts.MinAvailable:
		return time.Time{}, k.fail(driver.OpDestroy, driver.Refuse(kms.Invalid,
			fmt.Sprintf("Vault destroys the oldest version first, and %d is there", facts.MinAvailable), "destroy the older versions before this one"), nil)
	}
	if facts.MinEncryption <= n {
		if _, err := k.manage(ctx, driver.OpDestroy, "config", map[string]int{"min_encryption_version": n + 1}, false); err != nil {
			return time.Time{}, err
		}
	}
	if _, err := k.manage(ctx, driver.OpDestroy, "trim", map[string]int{"min_available_version": n + 1}, false); err != nil {
		return time.Time{}, err
	}
	return time.Now().UTC(), nil
}

// Restore implements kms.Retirer: Vault cannot.
func (k *Key) Restore(context.Context, string) error {
	return k.fail(driver.OpRestore, driver.Refuse(kms.Invalid, "what Vault has destroyed is gone",
		"restore a backup of the key under another name, if there is one (vault write transit/restore/…), and unwrap with that"), errors.ErrUnsupported)
}

// find reads the key and returns the number of one of its versions that is there.
// instead is the advice for the whole key, with which Vault does not do it.
func (k *Key) find(ctx context.Context, op, version, instead string) (facts keyFacts, n int, err error) {
	if version == "" {
		return facts, 0, k.fail(op, driver.Refuse(kms.Invalid, "Vault does it with versions of a key, not with all of it", instead), errors.ErrUnsupported)
	}
	if facts, err = k.readKey(ctx, op); err != nil {
		return facts, 0, err
	}
	n, err = strconv.Atoi(version)
	if err != nil || n < 1 || n > facts.Latest || strconv.Itoa(n) != version {
		return facts, 0, k.fail(op, driver.Refuse(kms.NotFound, "the key has no such version",
			fmt.Sprintf("name a version from 1 to %d", facts.Latest)), nil)
	}
	if n < facts.MinAvailable {
		return facts, 0, k.fail(op, driver.Refuse(kms.NotFound, "version "+version+" is destroyed", "nothing brings it back but a backup of the key"), nil)
	}
	return facts, n, nil
}

// keyFacts is what Vault returns to a token that may read a key. No key material is in it.
type keyFacts struct {
	Type            string          `json:"type"`
	Derived         bool            `json:"derived"`
	Latest          int             `json:"latest_version"`
	MinDecryption   int             `json:"min_decryption_version"`
	MinEncryption   int             `json:"min_encryption_version"` // 0: the latest, always
	MinAvailable    int             `json:"min_available_version"`
	Exportable      bool            `json:"exportable"`
	PlaintextBackup bool            `json:"allow_plaintext_backup"`
	DeletionAllowed bool            `json:"deletion_allowed"`
	Keys            json.RawMessage `json:"keys"` // its form depends on the type
}

// version describes version n.
func (f keyFacts) version(n int) kms.Version {
	v := kms.Version{ID: strconv.Itoa(n), Primary: n == f.Latest}
	switch {
	case n < f.MinAvailable:
		v.State = kms.VersionDestroyed
	case n < f.MinDecryption:
		v.State = kms.VersionDisabled
	}
	var made map[string]int64 // seconds since 1970
	if json.Unmarshal(f.Keys, &made) == nil && made[v.ID] > 0 {
		v.Created = time.Unix(made[v.ID], 0).UTC()
	}
	return v
}

// normal reports whether f makes sense, with bounds that are not set filled in.
func (f keyFacts) normal() (keyFacts, bool) {
	f.MinDecryption, f.MinAvailable = max(f.MinDecryption, 1), max(f.MinAvailable, 1)
	return f, f.Latest >= 1 && f.Latest <= maxVersions && f.MinDecryption <= f.Latest && f.MinAvailable <= f.MinDecryption
}

// readKey reads the key. Only a transit engine answers as it expects.
func (k *Key) readKey(ctx context.Context, op string) (keyFacts, error) {
	r, a, err := k.ask(ctx, op, request{method: http.MethodGet, path: k.keyPath(), limit: maxAnswerKey})
	if err != nil {
		return keyFacts{}, err
	}
	return k.factsIn(op, k.keyPath(), "read", r, a)
}

// manage changes the key and returns what it is afterwards. fields are numbers
// of versions.
func (k *Key) manage(ctx context.Context, op, what string, fields map[string]int, once bool) (keyFacts, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return keyFacts{}, k.notUnderstood(op)
	}
	path := k.keyPath() + "/" + what
	r, a, err := k.ask(ctx, op, request{method: http.MethodPost, path: path, body: body, limit: maxAnswerKey, once: once, silent: true})
	if err != nil {
		return keyFacts{}, err
	}
	if r.status == http.StatusNoContent || r.status == http.StatusOK && a.Data.Type == "" { // Vault before 1.12
		return k.readKey(ctx, op)
	}
	return k.factsIn(op, path, "update", r, a)
}

// factsIn reads the answer of a request at path, which takes the capability.
func (k *Key) factsIn(op, path, capability string, r *reply, a *answer) (keyFacts, error) {
	defer a.wipe()
	switch {
	case r.status == http.StatusOK:
		if a.Data.Type == "" || a.Data.Latest == 0 { // as a secret of a key-value engine may have the one
			return keyFacts{}, k.fail(op, k.noEngine(), nil)
		}
		if facts, ok := a.Data.keyFacts.normal(); ok {
			return facts, nil
		}
		return keyFacts{}, k.notUnderstood(op)
	case k.isMissing(r, a):
		return keyFacts{}, k.fail(op, k.noKey(op), nil)
	}
	refused, _ := k.refused(op, r, a)
	if r.status == http.StatusForbidden && !blamesToken(strings.Join(a.Errors, "\n")) {
		refused.Advice = "check that a policy grants " + capability + " on " + path
	}
	return keyFacts{}, refused
}

// isMissing reports whether an answer says that there is no such key: with an
// empty list of errors; other engines give none, or a reason.
func (k *Key) isMissing(r *reply, a *answer) bool {
	return r.status == http.StatusNotFound && a.Errors != nil && len(a.Errors) == 0
}

// keyPath is where the key is read and changed.
func (k *Key) keyPath() string { return k.mount + "/keys/" + k.name }
