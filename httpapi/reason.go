package httpapi

import (
	"github.com/waxseal/waxseal/internal/payloadjson"
	"github.com/waxseal/waxseal/kms"
)

// reason is why a request was not answered with payloads. It decides status, text and hint: the table below holds, word for
// word, everything that a caller learns about a failure.
type reason uint8

const (
	answered reason = iota // not a failure
	panicked
	overloaded
	overfull
	sealingFull
	hostRefused
	originRefused
	notFound
	noDownload
	notPost
	notGet
	badQuery
	badNamespace
	namespaceConflict
	namespaceMissing
	notJSON
	encodedBody
	bodyTooLarge
	bodyTooSlow
	bodyCut
	badSyntax
	badEnd
	trailing
	badText
	wrongType
	unknownField
	duplicateField
	badBase64
	nullElement
	tooManyPayloads
	tooManyToSeal
	tooManyEntries
	replyTooLarge
	clientGone
	classInternal
	classUnavailable
	classThrottled
	classDenied
	classNotFound
	classDisabled
	classCorrupt
	classCanceled
	classInvalid
	reasonCount
)

// statusClientGone is the status, in logs and metrics alone, of a request that the caller gave up. The number is nginx's;
// IANA has none.
const statusClientGone = 499

// problem is a row of the table.
type problem struct {
	// name stands for the reason in logs and metrics.
	name   string
	status int
	// text says what is wrong, hint what to do.
	text, hint string
	// retryAfter is in seconds; 0 means that a retry does not help.
	retryAfter int
}

// The Web UI repeats a request twice within 1.5 s after a 5xx, and not after a 4xx. So 5xx stands where a repeat may help.
var problemTable = [reasonCount]problem{
	panicked:          {"panic", 500, "the server made a mistake", "report it with the request ID; the server's log says where", 0},
	overloaded:        {"overloaded", 503, "too many requests are in progress", "try again in a moment", 1},
	overfull:          {"overfull", 503, "the requests in progress take too much memory", "try again in a moment", 1},
	sealingFull:       {"sealing-full", 503, "too many payloads are being sealed", "try again in a moment", 1},
	hostRefused:       {"host", 403, "the server does not answer to the host name that was used", "address it as 127.0.0.1 or localhost, or allow the name in its settings", 0},
	originRefused:     {"origin", 403, "pages of this origin may not use the server", "allow the origin in the server's settings", 0},
	notFound:          {"path", 404, "there is nothing at this path", "POST to a path that ends in /encode or /decode", 0},
	noDownload:        {"download", 404, "the server has no external storage to download from", "ask the codec server that was set up with the storage driver", 0},
	notPost:           {"method", 405, "the method is not POST", "POST to a path that ends in /encode or /decode", 0},
	notGet:            {"method-home", 405, "the method is not GET", "POST to a path that ends in /encode or /decode", 0},
	badQuery:          {"query", 400, "the query cannot be understood", "strict is either true or false; other parameters are ignored", 0},
	badNamespace:      {"namespace", 400, "the namespace is not printable text of at most 255 bytes", "send the namespace's name in X-Namespace", 0},
	namespaceConflict: {"namespace-conflict", 400, "the path and X-Namespace name different namespaces", "name it in one place; if the path only has a prefix, set the path prefix in the server's settings", 0},
	namespaceMissing:  {"namespace-missing", 400, "the request names no namespace to seal for", "send X-Namespace (temporal: --namespace), or give the server a default namespace", 0},
	notJSON:           {"content-type", 415, "the Content-Type is not application/json", "send Content-Type: application/json", 0},
	encodedBody:       {"content-encoding", 415, "the body is compressed", "send it without Content-Encoding", 0},
	bodyTooLarge:      {"body-size", 413, "the body is larger than the server accepts", "send fewer payloads at a time, or raise the server's limit", 0},
	bodyTooSlow:       {"body-time", 408, "the body did not arrive in time", "try again", 0},
	bodyCut:           {"body-cut", 400, "the body ended before its announced length", "try again", 0},
	badSyntax:         {"json", 400, "the body is not valid JSON", `send {"payloads":[…]}`, 0},
	badEnd:            {"json-end", 400, "the body ends too early", `send {"payloads":[…]}`, 0},
	trailing:          {"json-trailing", 400, "the body has something after its JSON", "send one JSON document", 0},
	badText:           {"json-text", 400, "the body has a string that is not valid text", "send UTF-8", 0},
	wrongType:         {"json-type", 400, "the body has a value of the wrong type", "payloads is a list, metadata an object, data and metadata values are base64 strings", 0},
	unknownField:      {"json-field", 400, "the body has an unknown field", "a payload has metadata, data and externalPayloads", 0},
	duplicateField:    {"json-duplicate", 400, "the body has the same field twice", "give each field once", 0},
	badBase64:         {"base64", 400, "data or a metadata value is not base64", "encode bytes in standard or URL-safe base64", 0},
	nullElement:       {"json-null", 400, "the body has null in place of a payload or of a metadata value", "leave it out, or send {} for an empty payload", 0},
	tooManyPayloads:   {"payload-count", 413, "the body has more payloads than the server accepts", "send fewer payloads at a time, or raise the server's limit", 0},
	tooManyToSeal:     {"encode-count", 413, "the body has more payloads than the server seals in one request", "send fewer payloads at a time; the server's limit is EncodePayloads, which is 1000 unless it was changed", 0},
	tooManyEntries:    {"metadata-count", 413, "a payload has more metadata than the server accepts", "raise the server's limit", 0},
	replyTooLarge:     {"reply-size", 413, "the answer is larger than the server sends", "send fewer payloads at a time, or raise the server's limit", 0},
	clientGone:        {"client-gone", statusClientGone, "the caller did not wait for the answer", "wait longer", 0},
	classInternal:     {"internal", 500, "the payloads could not be handled", "look for the request ID in the server's log", 0},
	classUnavailable:  {"unavailable", 503, "the key management service cannot be reached", "try again; the server's log has more under the request ID", 2},
	classThrottled:    {"throttled", 429, "the key management service is over its quota", "try again later", 5},
	classDenied:       {"denied", 403, "the keys may not be used for this namespace", "check the namespace, the accept list of its rule in the policy file, and the server's access to the keys; its log has more under the request ID", 0},
	classNotFound:     {"key-not-found", 424, "a key that is needed does not exist", "restore the key or its version; the server's log names it under the request ID", 0},
	classDisabled:     {"key-disabled", 424, "a key that is needed is disabled", "enable the key or its version; the server's log names it under the request ID", 0},
	classCorrupt:      {"corrupt", 422, "a sealed payload was altered or cut short", "send it exactly as Temporal stores it; the server's log has more under the request ID", 0},
	classInvalid:      {"key-setting", 424, "the URI or a setting of a key that is needed is wrong", "correct the server's settings; its log names the key and the setting under the request ID", 0},
	classCanceled:     {"timeout", 503, "the work was not finished in time", "try again; send fewer payloads at a time", 2},
}

// classReasons is the one place where a kms.Class becomes an HTTP status.
var classReasons = [...]reason{
	kms.Internal: classInternal, kms.Unavailable: classUnavailable, kms.Throttled: classThrottled, kms.Denied: classDenied,
	kms.NotFound: classNotFound, kms.Disabled: classDisabled, kms.Corrupt: classCorrupt, kms.Canceled: classCanceled,
	kms.Invalid: classInvalid,
}

// reasonOf is the reason for a failure of this class.
func reasonOf(class kms.Class) reason { return at(classReasons[:], int(class), classInternal) }

// documentReasons maps what is wrong with a body.
var documentReasons = [...]reason{
	payloadjson.Syntax: badSyntax, payloadjson.Truncated: badEnd, payloadjson.Trailing: trailing, payloadjson.InvalidText: badText,
	payloadjson.WrongType: wrongType, payloadjson.UnknownField: unknownField, payloadjson.DuplicateField: duplicateField,
	payloadjson.Base64: badBase64, payloadjson.NullElement: nullElement, payloadjson.TooManyPayloads: tooManyPayloads,
	payloadjson.TooManyEntries: tooManyEntries,
}

// documentReason is the reason for a body that could not be read.
func documentReason(r payloadjson.Reason) reason { return at(documentReasons[:], int(r), badSyntax) }

// at returns row i of a table, or what stands for a row that the table lacks.
func at(table []reason, i int, otherwise reason) reason {
	if i < len(table) {
		return table[i]
	}
	return otherwise
}
