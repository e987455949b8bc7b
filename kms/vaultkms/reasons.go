package vaultkms

import (
	"net/http"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// tlsOnly is what Go's HTTP server, and so Vault, says on a TLS port to http://.
const tlsOnly = "HTTP request to an HTTPS server"

// reason says what a message of Vault's means, if it is one we know. The texts
// are those of Vault 1.21 and OpenBao 2.4, unchanged for years.
func (k *Key) reason(op, message string) (why refusal, known bool) {
	has := func(s string) bool { return strings.Contains(message, s) }
	switch {
	case has("message authentication failed"):
		return driver.RefuseItem(kms.Corrupt, "the wrapped data key was altered, or belongs to another key or context",
			driver.Damaged), true
	case has("version is too new"):
		return driver.RefuseItem(kms.NotFound, "the key has no such version yet",
			"was the key restored from an older backup, or deleted and made again? the version that wrapped must come back"), true
	case has("disallowed by policy (too old)"):
		return driver.RefuseItem(kms.Disabled, "the key's min_decryption_version forbids the version that wrapped",
			"lower min_decryption_version in "+k.mount+"/keys/"+k.name+"/config for as long as old payloads are needed; "+
				"of a version that was trimmed away, only a backup of the key has a copy"), true
	case has("invalid ciphertext"):
		return driver.RefuseItem(kms.Corrupt, "Vault does not take the wrapped data key as one of its own", driver.Damaged), true
	case has("encryption key not found"), has("unknown key type"):
		return k.noKey(op), true
	case has("non-AEAD cipher suite"), has("not supported for key type"):
		return k.wrongType(typeIn(message)), true
	case wantsContext(message):
		return k.derivedKey(), true
	case has("missing client token"):
		return driver.Refuse(kms.Denied, "Vault got no token", "set VAULT_TOKEN, or have the agent add its own"), true
	case has(tlsOnly):
		return driver.Refuse(kms.Unavailable, k.client.address+" speaks only TLS",
			"use https:// in VAULT_ADDR"), true
	case has("no handler for route"), has("unsupported path"), has("unsupported operation"):
		return k.noEngine(), true
	}
	return refusal{}, false
}

// statusReason says what the status alone means.
func (k *Key) statusReason(op string, status int, message string, standby bool) refusal {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		if blamesToken(message) {
			return k.client.badToken()
		}
		return k.denied(op)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return k.noEngine()
	case http.StatusTooManyRequests:
		if !standby {
			return driver.Refuse(kms.Throttled, "a quota in Vault is used up",
				"raise the rate limit quota of "+k.mount+", or let more payloads share a data key")
		}
	}
	return k.client.statusReason(status, message, standby)
}

// statusReason says what a status means that has nothing to do with a key.
func (c *client) statusReason(status int, message string, standby bool) refusal {
	switch status {
	case http.StatusTooManyRequests:
		if standby {
			return driver.Refuse(kms.Unavailable, c.address+" is a standby node", "use the address of the active node")
		}
		return driver.Refuse(kms.Throttled, "a quota in Vault is used up", "raise the rate limit quota in Vault")
	case http.StatusPreconditionFailed:
		return driver.Refuse(kms.Unavailable, c.address+" is a standby node that is behind the active one",
			"use the address of the active node, or set allow_forwarding_via_header in Vault's replication stanza")
	case 472, 473: // disaster recovery secondary, performance standby
		return driver.Refuse(kms.Unavailable, c.address+" is a standby or secondary node that cannot answer",
			"use the address of the active node")
	case http.StatusNotImplemented:
		return driver.Refuse(kms.Unavailable, "Vault is not initialized",
			"initialize Vault at "+c.address+", or look whether it is the address of the right server")
	case http.StatusServiceUnavailable:
		if strings.Contains(message, "sealed") {
			return driver.Refuse(kms.Unavailable, "Vault is sealed", "unseal Vault at "+c.address)
		}
	case http.StatusRequestEntityTooLarge:
		return driver.Refuse(kms.Internal, "the request is larger than Vault takes", "raise max_request_size of Vault's listener")
	}
	switch {
	case status >= http.StatusInternalServerError:
		return driver.Refuse(kms.Unavailable, "Vault failed to answer", "look into Vault's log, and that of a proxy in front of it")
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return driver.Refuse(kms.Unavailable, c.address+" redirects and is not followed",
			"use the address of the active node")
	}
	return driver.Refuse(kms.Internal, "Vault did not take the request", "look for the request in Vault's log")
}

// meansTheSameFromAnyone reports whether a status says enough when it comes from a
// proxy or balancer in front of Vault.
func meansTheSameFromAnyone(status int) bool {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestEntityTooLarge, status == 472, status == 473:
		return true
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return true
	}
	return status >= http.StatusInternalServerError
}

func (c *client) notVault() refusal {
	return driver.Refuse(kms.Unavailable, "what answers at "+c.address+" is not Vault, or something on the way",
		"check that the address is Vault's, and what a proxy in front of it says")
}

func (c *client) badToken() refusal {
	r := refusal{Class: kms.Denied, Detail: "Vault does not take the token: it expired, was revoked, or is of another cluster or namespace"}
	if c.login != nil && !c.login.method.given() {
		r.Advice = "check that the login's auth namespace is the key's or one above it, and that nothing on the way changes the token"
	} else {
		r.Advice = "set VAULT_TOKEN to a valid token, or let us log in (VAULT_AUTH_METHOD)"
	}
	return r
}

func (k *Key) denied(op string) refusal {
	r := driver.Refuse(kms.Denied, "Vault's policies do not let this token do it",
		"check the token, that the key exists, and that a policy grants update on "+k.path(op))
	if op == driver.OpRewrap {
		r.Advice += " and read on " + k.keyPath()
	}
	return r
}

func (k *Key) noKey(op string) refusal {
	r := refusal{Class: kms.NotFound, Detail: "Vault has no such key"}
	switch op {
	case driver.OpUnwrap, driver.OpRewrap:
		// It was there once. Another one of its name would only hide the loss.
		r.Advice = "check mount, name and Vault namespace; if the key was deleted, restore it from a backup: a new one of that name opens nothing that the old one wrapped"
	default:
		r.Advice = "create it: vault write -f " + k.mount + "/keys/" + k.name + " type=aes256-gcm96"
	}
	return r
}

func (k *Key) noEngine() refusal {
	return driver.Refuse(kms.NotFound, "there is no transit engine at "+k.mount+", or no such Vault namespace",
		"check the mount in the key URI, or mount one: vault secrets enable -path="+k.mount+" transit")
}

func (k *Key) wrongType(keyType string) refusal {
	if keyType != "" {
		keyType = " " + keyType
	}
	return driver.Refuse(kms.Invalid, "its type"+keyType+" does not do: it takes no associated data or has fewer than 256 bits",
		"create another key with type=aes256-gcm96 and name that one; a key's type cannot be changed")
}

func (k *Key) derivedKey() refusal {
	return driver.Refuse(kms.Invalid, "it is a derived key now, and was none when it was looked at",
		"was the key deleted and made again? what the old one wrapped is lost; start this process anew to use the new one")
}

// typeIn finds the key type that a message of Vault's ends with. Only the name of
// a type is ever repeated.
func typeIn(message string) string {
	words := strings.Fields(message)
	if len(words) == 0 || !slices.Contains(unfitTypes(), words[len(words)-1]) {
		return ""
	}
	return words[len(words)-1]
}

// unfitTypes are the types that Vault 1.21 and OpenBao 2.4 have and we do not take.
func unfitTypes() []string {
	return []string{
		"aes128-gcm96", "aes128-cbc", "aes256-cbc", "aes128-cmac", "aes192-cmac", "aes256-cmac", "hmac",
		"rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ml-dsa", "slh-dsa", "hybrid",
	}
}

// path returns the API path of op, as policies name it.
func (k *Key) path(op string) string {
	switch op {
	case driver.OpUnwrap:
		return k.mount + "/decrypt/" + k.name
	case driver.OpRewrap:
		return k.mount + "/rewrap/" + k.name
	}
	return k.mount + "/encrypt/" + k.name
}
