package vaultkms

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// refusal is what an answer of Vault's means.
type refusal = driver.Refusal

// fail makes the error of one operation.
func (k *Key) fail(op string, r refusal, cause error) *kms.Error { return r.Error(op, k.id, cause) }

// notSent says why a request got no answer. ctx is the caller's own.
func (k *Key) notSent(ctx context.Context, op string, err error) *kms.Error {
	if ctx.Err() != nil {
		return driver.Canceled(op, k.id, ctx.Err())
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
		return refusal{Class: login.Class, Detail: login.Detail, Advice: login.Advice, RetryAfter: login.RetryAfter}
	case errors.Is(err, errClosed):
		return driver.Refuse(kms.Internal, "the key was closed", "this is a bug in the calling program: it uses a key after closing it")
	case errors.As(err, &late):
		return driver.Refuse(kms.Unavailable, at+" gave "+late.Error(),
			"check that Vault at this address is healthy, or raise VAULT_CLIENT_TIMEOUT")
	case errors.Is(err, errRateLimit):
		return driver.Refuse(kms.Throttled, "the rate limit set for this client leaves no room in time",
			"raise VAULT_RATE_LIMIT, or let more payloads share a data key")
	case errors.Is(err, driver.ErrTooLarge):
		return c.notVault()
	case errors.Is(err, errRedirect):
		return driver.Refuse(kms.Unavailable, at+" redirects to an address where the token and data keys would cross the network unencrypted",
			"give Vault's nodes an https:// api_addr, or use the address of the active node")
	case errors.Is(err, errElsewhere):
		return driver.Refuse(kms.Unavailable, at+" redirects to another page, as a login in front of Vault does; the token and data keys do not go there",
			"let us through to Vault itself, or use the address of the active node")
	case errors.As(err, &untrusted):
		return driver.Refuse(kms.Unavailable, "the certificate of "+at+" is not trusted",
			"set VAULT_CACERT to the file with the certificate of the authority that signed it; VAULT_TLS_SERVER_NAME where the name differs")
	case strings.Contains(err.Error(), "remote error: tls:"): // Go has no type for what the other side says
		return driver.Refuse(kms.Unavailable, at+" ends the TLS handshake",
			"set VAULT_CLIENT_CERT and VAULT_CLIENT_KEY if it demands a certificate, and let it trust the CA that signed that")
	case errors.Is(err, http.ErrSchemeMismatch):
		return driver.Refuse(kms.Unavailable, at+" does not speak TLS",
			"give this server a certificate, or on the same machine use http://")
	}
	return driver.Refuse(kms.Unavailable, "cannot reach "+at,
		"check that Vault runs there, that VAULT_ADDR names it (with https:// where it speaks TLS), and that the network lets us through")
}

// notUnderstood reports an answer that makes no sense.
func (k *Key) notUnderstood(op string) *kms.Error {
	return k.fail(op, driver.Refuse(kms.Internal, "what Vault answered is not what a transit engine answers",
		"check that the mount "+k.mount+" is a transit engine"), errAnswer)
}

// mixedUp reports an answer with items that are not those of the request, or in another
// order.
func (k *Key) mixedUp(op string) *kms.Error {
	return k.fail(op, driver.Refuse(kms.Unavailable, "the answer's items do not match those that were sent",
		"look for what changes answers between Vault and us: a proxy, or a cache in front of it"), errAnswer)
}

// refused classifies an answer that refused the whole request. blame says that
// some item of the batch is to blame, or may be.
func (k *Key) refused(op string, r *reply, a *answer) (err *kms.Error, blame bool) {
	message := strings.Join(a.Errors, "\n")
	why, known := k.reason(op, message)
	if !known || r.status == http.StatusForbidden || r.status >= http.StatusInternalServerError {
		why = k.statusReason(op, r.status, message, a.Standby != nil)
	}
	why.RetryAfter = r.retryAfter
	return k.fail(op, why, cause(r, a.Errors)), why.Item || !known && r.status == http.StatusBadRequest
}

// refusedItem classifies the refusal of one item of a batch.
func (k *Key) refusedItem(op string, r *reply, message string) *kms.Error {
	why, known := k.reason(op, message)
	if !known {
		why = driver.Refuse(kms.Internal, "Vault refused this item for a reason that we do not know", "look for the request in Vault's log")
		if r.status >= http.StatusInternalServerError {
			why.Class = kms.Unavailable
		}
	}
	return k.fail(op, why, cause(r, []string{message}))
}

// cause keeps Vault's messages for errors.As.
func cause(r *reply, messages []string) error {
	return &vault.ResponseError{HTTPMethod: r.method, URL: r.url, StatusCode: r.status, Errors: messages, NamespacePath: r.namespace}
}
