package kmstest

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// An emulator may put the key's ARN at the front of its blobs, and errors name the
// key. What follows the ARN stays secret, and so does the blob in any encoding.
func TestLeaksOfBlobWithItsKeysName(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/0f6b6b1e-5a3c-4b53-9b6c-52c2a4a7e6b0"
	const multiRegion = "arn:aws:kms:eu-west-1:111122223333:key/mrk-0f6b6b1e5a3c4b539b6c52c2a4a7e6b0"
	secret := []byte("\x9e\x01ten or more bytes of ciphertext\xff")
	for _, tc := range []struct {
		name, id, front string
	}{
		{"ARN", "awskms:///" + arn, arn},
		{"ARN after its length", "awskms:///" + arn, "\x00\x4b" + arn},
		{"key ID alone", "awskms:///" + arn, arn[len(arn)-36:]},
		{"ARN with the Region that the ID leaves out", "awskms:///arn:aws:kms::111122223333:key/mrk-0f6b6b1e5a3c4b539b6c52c2a4a7e6b0", multiRegion},
	} {
		t.Run(tc.name, func(t *testing.T) {
			blob := slices.Concat([]byte(tc.front), secret)
			text := "kms: unwrap with " + tc.id + ": corrupt: altered"
			if how := leaks(text, blob, tc.id); how != "" {
				t.Errorf("the key's name passes for the blob: %s", how)
			}
			for what, shown := range map[string]string{
				"ciphertext": string(secret), "quoted": string(blob), "hex": hex.EncodeToString(blob),
				"base64": base64.StdEncoding.EncodeToString(blob), "base64 of the ciphertext": base64.StdEncoding.EncodeToString(secret),
			} {
				if leaks(text+": "+shown, blob, tc.id) == "" {
					t.Errorf("%s is not found", what)
				}
			}
		})
	}
}

// wrapOne wraps one fresh data key and returns it with the outcome.
func wrapOne(t testing.TB, key kms.Key, ec kms.Context) (dataKey []byte, wrapped kms.Wrapped) {
	t.Helper()
	dataKeys := newDataKeys(1)
	return dataKeys[0], mustWrap(t, key, dataKeys, ec)[0]
}
