package vaultkms

import (
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxBatch is how many data keys one request carries. OpenBao takes at most
	// 1,000 strings in a request (max_request_json_strings, since 2.4.1): 200
	// items of two names and two values each, and the few around them.
	maxBatch = 200

	// maxAnswer* bound an answer: so much for each item, and so much around them.
	maxAnswerItem = kms.MaxWrappedSize + 512
	maxAnswerRest = 64 << 10

	// mustExist goes where Vault expects the type of a key to create. Its encrypt
	// endpoint creates a key that is missing if the policy permits it, and no
	// parameter says not to; a type that no key can have makes it refuse instead.
	// For a key that exists the parameter is ignored.
	mustExist = "none-it-must-exist"
)

// errAnswer means that the answer is not what a transit engine gives. The
// parser's own error is dropped, because it may quote the answer.
var errAnswer = errors.New("vaultkms: answer is not that of a transit engine")

// appendEncrypt writes the body of an encrypt request for dataKeys. It has the
// exact size from the start: a buffer that grows leaves data keys behind.
func appendEncrypt(dataKeys [][]byte, ad string) []byte {
	const head, item, mid, tail = `{"type":"` + mustExist + `","batch_input":[`, `{"plaintext":"`, `","associated_data":"`, `"},`
	size := len(head) + len("]}")
	for _, k := range dataKeys {
		size += len(item) + base64.StdEncoding.EncodedLen(len(k)) + len(mid) + len(ad) + len(tail)
	}
	b := append(make([]byte, 0, size), head...)
	for i, k := range dataKeys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, item...)
		b = base64.StdEncoding.AppendEncode(b, k)
		b = appendAssociatedData(b, ad)
	}
	return append(b, "]}"...)
}

// appendDecrypt writes the body of a decrypt request for blobs, which parseBlob
// has passed: nothing in them needs escaping.
func appendDecrypt(blobs [][]byte, ad string) []byte {
	b := []byte(`{"batch_input":[`)
	for i, blob := range blobs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"ciphertext":"`...)
		b = append(b, blob...)
		b = appendAssociatedData(b, ad)
	}
	return append(b, "]}"...)
}

// appendAssociatedData ends an item. ad is base64, and left out where it is
// empty, as Vault takes none for none.
func appendAssociatedData(b []byte, ad string) []byte {
	if ad != "" {
		b = append(b, `","associated_data":"`...)
		b = append(b, ad...)
	}
	return append(b, `"}`...)
}

// encodeContext returns the associated data of ec as Vault wants it.
func encodeContext(ec kms.Context) string {
	return base64.StdEncoding.EncodeToString(ec.AssociatedData())
}

// maxAnswer bounds the answer for a batch of n.
func maxAnswer(n int) int64 { return maxAnswerRest + int64(n)*maxAnswerItem }

// answer is what we read of Vault's answers.
type answer struct {
	Errors  []string `json:"errors"`
	Standby *bool    `json:"standby"`
	Data    struct {
		Results []result `json:"batch_results"`
		// Of a key that is read.
		Type    string `json:"type"`
		Derived bool   `json:"derived"`
	} `json:"data"`
}

// result is the outcome for one item of a batch. Plaintext is decoded from
// base64 straight into bytes that can be wiped.
type result struct {
	Ciphertext string `json:"ciphertext"`
	Plaintext  []byte `json:"plaintext"`
	Error      string `json:"error"`
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
