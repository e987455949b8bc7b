package vaultkms

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
)

// refusal is what an answer of Vault's means, in our words.
type refusal struct {
	class  kms.Class
	detail string
	advice string
	// item says that it is about one item of a batch, not about the key.
	item bool
	// retryAfter is how long Vault asked to be left alone.
	retryAfter time.Duration
}

// fail makes the error of one operation. cause is kept for errors.As, never printed.
func (k *Key) fail(op string, r refusal, cause error) *kms.Error {
	return &kms.Error{Class: r.class, Op: op, KeyID: k.id, Detail: r.detail, Advice: r.advice, RetryAfter: r.retryAfter, Err: cause}
}

// notSent says why a request got no answer. ctx is the caller's own.
func (k *Key) notSent(ctx context.Context, op string, err error) *kms.Error {
	if ctx.Err() != nil {
		return k.fail(op, refusal{class: kms.Canceled, detail: "the caller's context ended first"}, ctx.Err())
	}
	return k.fail(op, k.client.noAnswer(err), err)
}

// noAnswer says what an error of send means.
func (c *client) noAnswer(err error) refusal {
	at := c.address
	var untrusted *tls.CertificateVerificationError
	var login *kms.Error
	var late *kms.LateError
	switch {
	case errors.As(err, &login):
		return refusal{class: login.Class, detail: login.Detail, advice: login.Advice, retryAfter: login.RetryAfter}
	case errors.Is(err, errClosed):
		return refusal{detail: "the key was closed", advice: "this is a bug in the calling program: it uses a key after closing it"}
	case errors.As(err, &late):
		return refusal{
			class: kms.Unavailable, detail: at + " gave " + late.Error(),
			advice: "check that Vault at this address is healthy, or raise VAULT_CLIENT_TIMEOUT",
		}
	case errors.Is(err, errRateLimit):
		return refusal{
			class: kms.Throttled, detail: "the rate limit set for this client leaves no room in time",
			advice: "raise VAULT_RATE_LIMIT, or let more payloads share a data key",
		}
	case errors.Is(err, errTooLarge):
		return c.notVault()
	case errors.Is(err, errRedirect):
		return refusal{
			class: kms.Unavailable, detail: at + " redirects to an address where the token and data keys would cross the network unencrypted",
			advice: "give Vault's nodes an https:// api_addr, or use the address of the active node",
		}
	case errors.Is(err, errElsewhere):
		return refusal{
			class: kms.Unavailable, detail: at + " redirects to another page, as a login in front of Vault does; the token and data keys do not go there",
			advice: "let us through to Vault itself, or use the address of the active node",
		}
	case errors.As(err, &untrusted):
		return refusal{
			class: kms.Unavailable, detail: "the certificate of " + at + " is not trusted",
			advice: "set VAULT_CACERT to the file with the certificate of the authority that signed it; VAULT_TLS_SERVER_NAME where the name differs",
		}
	case strings.Contains(err.Error(), "remote error: tls:"): // Go has no type for what the other side says
		return refusal{
			class: kms.Unavailable, detail: at + " ends the TLS handshake",
			advice: "set VAULT_CLIENT_CERT and VAULT_CLIENT_KEY if it demands a certificate, and have it trust who signed that",
		}
	case errors.Is(err, http.ErrSchemeMismatch):
		return refusal{
			class: kms.Unavailable, detail: at + " does not speak TLS",
			advice: "give this server a certificate, or on the same machine use http://",
		}
	}
	return refusal{
		class: kms.Unavailable, detail: "cannot reach " + at,
		advice: "check that Vault runs there, that VAULT_ADDR names it (with https:// where it speaks TLS), and that the network lets us through",
	}
}

// notUnderstood reports an answer that makes no sense.
func (k *Key) notUnderstood(op string) *kms.Error {
	return k.fail(op, refusal{
		detail: "what Vault answered is not what a transit engine answers",
		advice: "check that the mount " + k.mount + " is a transit engine",
	}, errAnswer)
}

// mixedUp reports an answer whose items are not those of the request, or in
// another order.
func (k *Key) mixedUp(op string) *kms.Error {
	return k.fail(op, refusal{
		class: kms.Unavailable, detail: "the answer's items do not match those that were sent",
		advice: "look for what changes answers between Vault and us: a proxy, or a cache in front of it",
	}, errAnswer)
}

// refused classifies an answer that refused the whole request. blame says that
// some item of the batch is to blame, or may be.
func (k *Key) refused(op string, r *reply, a *answer) (err *kms.Error, blame bool) {
	message := strings.Join(a.Errors, "\n")
	why, known := k.reason(op, message)
	if !known || r.status == http.StatusForbidden || r.status >= http.StatusInternalServerError {
		why = k.statusReason(op, r.status, message, a.Standby != nil)
	}
	why.retryAfter = r.retryAfter
	return k.fail(op, why, cause(r, a.Errors)), why.item || !known && r.status == http.StatusBadRequest
}

// refusedItem classifies the refusal of one item of a batch.
func (k *Key) refusedItem(op string, r *reply, message string) *kms.Error {
	why, known := k.reason(op, message)
	if !known {
		why = refusal{detail: "Vault refused this item for a reason that we do not know", advice: "look for the request in Vault's log"}
		if r.status >= http.StatusInternalServerError {
			why.class = kms.Unavailable
		}
	}
	return k.fail(op, why, cause(r, []string{message}))
}

// cause keeps what Vault said for callers that ask with errors.As.
func cause(r *reply, messages []string) error {
	return &vault.ResponseError{HTTPMethod: r.method, URL: r.url, StatusCode: r.status, Errors: messages, NamespacePath: r.namespace}
}
