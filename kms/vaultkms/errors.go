package vaultkms

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

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
}

// fail makes the error of one operation. cause is kept for errors.As, never printed.
func (k *Key) fail(op string, r refusal, cause error) *kms.Error {
	return &kms.Error{Class: r.class, Op: op, KeyID: k.id, Detail: r.detail, Advice: r.advice, Err: cause}
}

// notSent says why a request got no answer. ctx is the caller's own.
func (k *Key) notSent(ctx context.Context, op string, err error) *kms.Error {
	at := k.client.address
	var untrusted *tls.CertificateVerificationError
	var login *kms.Error
	switch {
	case ctx.Err() != nil:
		return k.fail(op, refusal{class: kms.Canceled, detail: "the caller's context ended first"}, ctx.Err())
	case errors.As(err, &login): // the token source's
		return k.fail(op, refusal{class: login.Class, detail: login.Detail, advice: login.Advice}, err)
	case errors.Is(err, errStalled):
		return k.fail(op, refusal{
			class: kms.Unavailable, detail: at + " gave no answer within " + k.client.timeout.String(),
			advice: "check that Vault at this address is healthy, or raise VAULT_CLIENT_TIMEOUT",
		}, err)
	case errors.Is(err, errRateLimit):
		return k.fail(op, refusal{
			class: kms.Throttled, detail: "the rate limit set for this client leaves no room in time",
			advice: "raise VAULT_RATE_LIMIT, or let more payloads share a data key",
		}, err)
	case errors.Is(err, errTooLarge):
		return k.fail(op, k.notVault(), err)
	case errors.Is(err, errRedirect):
		return k.fail(op, refusal{
			class: kms.Unavailable, detail: at + " redirects to an address where the token and data keys would cross the network unencrypted",
			advice: "give Vault's nodes an https:// api_addr, or use the address of the active node",
		}, err)
	case errors.Is(err, errElsewhere):
		return k.fail(op, refusal{
			class: kms.Unavailable, detail: at + " redirects to another page, as a login in front of Vault does; the token and data keys do not go there",
			advice: "let us through to Vault itself, or use the address of the active node",
		}, err)
	case errors.As(err, &untrusted):
		return k.fail(op, refusal{
			class: kms.Unavailable, detail: "the certificate of " + at + " is not trusted",
			advice: "set VAULT_CACERT to the file with the certificate of the authority that signed it; VAULT_TLS_SERVER_NAME where the name differs",
		}, err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return k.fail(op, refusal{
			class: kms.Unavailable, detail: at + " does not speak TLS",
			advice: "give this server a certificate, or on the same machine use http://",
		}, err)
	}
	return k.fail(op, refusal{
		class: kms.Unavailable, detail: "cannot reach " + at,
		advice: "check that Vault runs there, that VAULT_ADDR names it (with https:// where it speaks TLS), and that the network lets us through",
	}, err)
}

// notUnderstood reports an answer that makes no sense.
func (k *Key) notUnderstood(op string) *kms.Error {
	return k.fail(op, refusal{
		detail: "what Vault answered is not what a transit engine answers",
		advice: "check that the mount " + k.mount + " is a transit engine",
	}, errAnswer)
}

// refused classifies an answer that refused the whole request. blame says that
// some item of the batch is to blame, or may be.
func (k *Key) refused(op string, r *reply, a *answer) (err *kms.Error, blame bool) {
	message := strings.Join(a.Errors, "\n")
	why, known := k.reason(message)
	if !known || r.status == http.StatusForbidden || r.status >= http.StatusInternalServerError {
		why = k.statusReason(op, r.status, message, a.Standby != nil)
	}
	return k.fail(op, why, k.cause(r, a.Errors)), why.item || !known && r.status == http.StatusBadRequest
}

// refusedItem classifies the refusal of one item of a batch.
func (k *Key) refusedItem(op string, r *reply, message string) *kms.Error {
	why, known := k.reason(message)
	if !known {
		why = refusal{detail: "Vault refused this item for a reason that we do not know", advice: "look for the request in Vault's log"}
		if r.status >= http.StatusInternalServerError {
			why.class = kms.Unavailable
		}
	}
	return k.fail(op, why, k.cause(r, []string{message}))
}

// cause keeps what Vault said for callers that ask with errors.As.
func (k *Key) cause(r *reply, messages []string) error {
	return &vault.ResponseError{HTTPMethod: r.method, URL: r.url, StatusCode: r.status, Errors: messages, NamespacePath: k.client.namespace}
}
