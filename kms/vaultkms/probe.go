package vaultkms

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// soon is how near the end of a token that is not renewed is worth a warning.
const soon = 24 * time.Hour

var _ kms.Prober = (*Key)(nil)

// Probe implements kms.Prober. It reads the key; if it may not, it reads our rights on it;
// if it may not do that either, it wraps 32 random bytes. It looks up our own token, and
// reads clock and version in Vault's health. If those two requests fail, their fields stay
// empty.
//
// It warns of a key that can be exported, backed up in plain, or deleted, of
// versions that do not open, of the root token, and of a token that ends within
// a day and is not renewed.
func (k *Key) Probe(ctx context.Context) (kms.Report, error) {
	var report kms.Report
	if err := ctx.Err(); err != nil {
		return report, k.notSent(ctx, driver.OpProbe, err)
	}
	if err := k.probeKey(ctx, &report); err != nil {
		return kms.Report{}, err
	}
	k.probeToken(ctx, &report)
	k.probeServer(ctx, &report)
	if err := ctx.Err(); err != nil {
		return kms.Report{}, k.notSent(ctx, driver.OpProbe, err)
	}
	return report, nil
}

func (k *Key) probeKey(ctx context.Context, report *kms.Report) error {
	facts, readable, err := k.readType(ctx, driver.OpProbe)
	switch {
	case err != nil:
		return err
	case !readable:
		report.Key = "a transit key that we may not read"
		usable, known := k.rights(ctx)
		if known && !usable {
			return k.fail(driver.OpProbe, k.denied(driver.OpProbe), nil)
		}
		if !known {
			return k.try(ctx, driver.OpProbe)
		}
		return nil
	}
	report.Key = fmt.Sprintf("%s transit key, version %d", facts.Type, facts.Latest)
	if facts.Derived {
		report.Key += ", derived"
	}
	warn := func(when bool, text string) {
		if when {
			report.Warnings = append(report.Warnings, text)
		}
	}
	warn(facts.Exportable, "The key is exportable: who exports it opens everything without Vault, and that cannot be undone.")
	warn(facts.PlaintextBackup, "The key allows plaintext backups: who makes one opens everything without Vault, and that cannot be undone.")
	warn(facts.DeletionAllowed, "The key allows its deletion, after which nothing opens any more: set deletion_allowed=false.")
	warn(facts.MinDecryption > 1, fmt.Sprintf("Versions below %d do not open: min_decryption_version forbids them.", facts.MinDecryption))
	return nil
}

// rights reports whether we may wrap or unwrap with the key; known is false if
// Vault does not say.
func (k *Key) rights(ctx context.Context) (usable, known bool) {
	for _, op := range []string{driver.OpWrap, driver.OpUnwrap} {
		body := []byte(`{"paths":["` + k.path(op) + `"]}`) // names that need no escaping
		r, a, err := k.ask(ctx, driver.OpProbe, request{method: http.MethodPost, path: "sys/capabilities-self", body: body, limit: maxAnswerRest})
		if err != nil || r.status != http.StatusOK {
			return false, false
		}
		if slices.Contains(a.Data.Capabilities, "update") || slices.Contains(a.Data.Capabilities, "root") {
			return true, true
		}
	}
	return false, true
}

func (k *Key) probeToken(ctx context.Context, report *kms.Report) {
	r, err := k.client.send(ctx, request{
		method: http.MethodGet, path: "auth/token/lookup-self", namespace: k.client.authNamespace, limit: maxAnswerRest,
	})
	if err != nil || r.status != http.StatusOK {
		return
	}
	defer clear(r.body) // it repeats the token
	a, err := parseAnswer(r.body)
	if err != nil {
		return
	}
	token := a.Data
	report.Identity = token.DisplayName
	if len(token.Policies) > 0 {
		report.Identity = strings.TrimSpace(report.Identity + " (policies: " + strings.Join(token.Policies, ", ") + ")")
	}
	if ttl := seconds(token.TTL); ttl > 0 {
		report.Expires = time.Now().Add(ttl).UTC().Truncate(time.Second)
		login := k.client.login
		if ours := login != nil && !login.method.given(); !ours && !token.Renewable && ttl < soon {
			report.Warnings = append(report.Warnings, "The token ends within a day and cannot be renewed: workflows that seal or open with it fail for good then.")
		}
	}
	if slices.Contains(token.Policies, "root") {
		report.Warnings = append(report.Warnings, "The token is root's: give this process one of its own, with no more rights than it needs.")
	}
}

func (k *Key) probeServer(ctx context.Context, report *kms.Report) {
	before := time.Now().Unix()
	// Health has no namespace, and wants no token.
	r, err := k.client.send(ctx, request{method: http.MethodGet, path: "sys/health", limit: maxAnswerRest, own: true})
	after := time.Now().Unix()
	if err != nil {
		return
	}
	a, err := parseAnswer(r.body)
	if err != nil || a.ServerTime <= 0 {
		return
	}
	report.SkewKnown = true
	switch { // it is in whole seconds
	case a.ServerTime < before:
		report.Skew = time.Duration(a.ServerTime-before) * time.Second
	case a.ServerTime > after:
		report.Skew = time.Duration(a.ServerTime-after) * time.Second
	}
	if a.Version != "" && len(a.Version) < 64 {
		report.Key += fmt.Sprintf(", in a server of version %q", a.Version)
	}
}
