package vaultkms

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxBatch is how many data keys one request carries. OpenBao takes at most
	// 1,000 strings in a request (max_request_json_strings, since 2.4.1): 160
	// items of three names and three values each, and the few around them.
	maxBatch = 160

	// maxAnswer* bound an answer: so much for each item, and so much around them.
	maxAnswerItem = kms.MaxWrappedSize + 512
	maxAnswerRest = 64 << 10
	// maxAnswerKey bounds the description of a key: 20 bytes for each version, of some
	// 50,000.
	maxAnswerKey = 1 << 20

	// mustExist is sent as the type of a key to create. Vault's encrypt endpoint creates a
	// missing key if the policy permits it, and no parameter forbids that; a type that no
	// key can have makes it refuse. For a key that exists the parameter is ignored.
	mustExist = "none-it-must-exist"
)

// errAnswer means that the answer is not what a transit engine gives. The
// parser's own error is dropped, because it may quote the answer.
var errAnswer = errors.New("vaultkms: answer is not that of a transit engine")

// binding is how an encryption context goes to Vault: in this field of each item,
// in base64. An empty value is left out, as Vault takes none for none.
type binding struct{ field, value string }

const (
	fieldAssociatedData = "associated_data"
	fieldContext        = "context"

	// noContext stands for an empty encryption context in the derivation of a key,
	// which cannot do without. No context that is not empty encodes to it: those
	// begin with a length of which the first byte is zero.
	noContext = "waxseal: no context"
)

// bind returns the binding of ec for a key that is derived from its context, or is not. A
// derived key is bound by the context alone: another context gives another key. Associated
// data would not bind better, and Vault's rewrap takes none.
func bind(ec kms.Context, derived bool) binding {
	ad := ec.AssociatedData()
	if !derived {
		return binding{fieldAssociatedData, base64.StdEncoding.EncodeToString(ad)}
	}
	if len(ad) == 0 {
		ad = []byte(noContext)
	}
	return binding{fieldContext, base64.StdEncoding.EncodeToString(ad)}
}

// appendEncrypt writes the body of an encrypt request for dataKeys.
func appendEncrypt(dataKeys [][]byte, by binding) []byte {
	return batchBody(`{"type":"`+mustExist+`","batch_input":[`, "plaintext", dataKeys, base64.StdEncoding.AppendEncode, by)
}

// appendCiphertexts writes the body of a decrypt or rewrap request for blobs,
// which parseBlob has passed: nothing in them needs escaping.
func appendCiphertexts(blobs [][]byte, by binding) []byte {
	return batchBody(`{"batch_input":[`, "ciphertext", blobs, func(b, blob []byte) []byte { return append(b, blob...) }, by)
}

// batchBody writes a body that begins with head and has each of items in field. It has
// its size from the start: a buffer that grows leaves data keys behind.
func batchBody(head, field string, items [][]byte, appendItem func(b, item []byte) []byte, by binding) []byte {
	start := `{"` + field + `":"`
	size := len(head) + len("]}")
	for _, item := range items {
		size += len(start) + base64.StdEncoding.EncodedLen(len(item)) + by.size() + len(",")
	}
	b := append(make([]byte, 0, size), head...)
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, start...)
		b = appendItem(b, item)
		b = by.appendTo(b, i)
	}
	return append(b, "]}"...)
}

// appendTo ends item i with its reference, which comes back in the answer, and
// the binding.
func (by binding) appendTo(b []byte, i int) []byte {
	b = append(b, `","reference":"`...)
	b = strconv.AppendInt(b, int64(i), 10)
	if by.value != "" {
		b = append(b, `","`...)
		b = append(b, by.field...)
		b = append(b, `":"`...)
		b = append(b, by.value...)
	}
	return append(b, `"}`...)
}

// size is how many bytes appendTo appends, or more.
func (by binding) size() int {
	const reference = "999" // maxBatch has no more digits
	return len(`","reference":"`) + len(reference) + len(`","`) + len(by.field) + len(`":"`) + len(by.value) + len(`"}`)
}

// inOrder reports whether results are in the order of the request. Vault
// keeps the order; what mixes answers up, on the way or in a cache, does not. A
// server from before references (Vault 1.12) gives none at all.
func inOrder(results []result) bool {
	none := true
	for _, r := range results {
		none = none && r.Reference == ""
	}
	for i, r := range results {
		if !none && r.Reference != strconv.Itoa(i) {
			return false
		}
	}
	return true
}

// maxAnswer bounds the answer for a batch of n.
func maxAnswer(n int) int64 { return maxAnswerRest + int64(n)*maxAnswerItem }

// answer is what we read of Vault's answers.
type answer struct {
	Errors  []string `json:"errors"`
	Standby *bool    `json:"standby"`
	// LeaseID is in answers of engines, good or bad, if an empty one.
	LeaseID *string `json:"lease_id"`
	// Of the server's health.
	ServerTime int64  `json:"server_time_utc"` // seconds since 1970
	Version    string `json:"version"`

	Data struct {
		Results []result `json:"batch_results"`
		// Of a key that is read or changed.
		keyFacts
		// Of a token that is looked up, and of its rights.
		TTL          int64    `json:"ttl"`
		Renewable    bool     `json:"renewable"`
		DisplayName  string   `json:"display_name"`
		Policies     []string `json:"policies"`
		Capabilities []string `json:"capabilities"`
		// Of a secret ID that is wrapped, and unwrapped.
		CreationPath string `json:"creation_path"`
		SecretID     Token  `json:"secret_id"`
	} `json:"data"`
	// Of a login or a renewal.
	Auth struct {
		Token     Token `json:"client_token"`
		Duration  int64 `json:"lease_duration"` // in seconds
		Renewable bool  `json:"renewable"`
		// SecondFactor is there in place of a token where one is wanted.
		SecondFactor json.RawMessage `json:"mfa_requirement"`
	} `json:"auth"`
}

// isVaults reports whether an answer of this status can be Vault's: its refusals
// have a list of errors, if an empty one, or are an engine's full answer. What
// stands in front of Vault may refuse in JSON as well.
func (a *answer) isVaults(status int) bool {
	return status < http.StatusBadRequest || meansTheSameFromAnyone(status) || a.Errors != nil || a.LeaseID != nil || len(a.Data.Results) > 0
}

// result is the outcome for one item of a batch. Plaintext is decoded from
// base64 straight into bytes that can be wiped.
type result struct {
	Ciphertext string `json:"ciphertext"`
	Plaintext  []byte `json:"plaintext"`
	Error      string `json:"error"`
	Reference  string `json:"reference"`
}

// wipe zeroes the data keys in a.
func (a *answer) wipe() {
	for _, r := range a.Data.Results {
		clear(r.Plaintext)
	}
}

// parseAnswer reads the body of an answer. A body that is not JSON gives
// errAnswer and what could be read of it is wiped.
func parseAnswer(body []byte) (*answer, error) {
	a := new(answer)
	if err := json.Unmarshal(body, a); err != nil {
		a.wipe()
		return nil, errAnswer
	}
	return a, nil
}
