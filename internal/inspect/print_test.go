package inspect

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInspectedText(t *testing.T) {
	item := Payload{Path: "a\x1b", Sealed: true, Envelope: &Envelope{
		Namespace: "n\u202e", Claims: map[string]string{"workflowId": "order\n1", "taskQueue": "q"},
		Suite: 1, Algorithms: "x", Compression: "zstd", CiphertextBytes: 40, PlaintextBytes: 12,
		Recipients: []Recipient{{Key: "k://a", WrappedBytes: 3}, {Key: "k://b", Version: "7", WrappedBytes: 4}},
	}}
	want := `a\x1b
namespace     n\u202e
claims        taskQueue = q
              workflowId = order\n1
recipients    k://a
                data key wrapped in 3 bytes
              k://b
                version 7, data key wrapped in 4 bytes
suite         1, x
compression   zstd
ciphertext    40 bytes
plaintext     12 bytes compressed
`
	if diff := cmp.Diff(want, item.text(false)); diff != "" {
		t.Error(diff)
	}
}

func TestLetters(t *testing.T) {
	for n, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 27: "AB", 51: "AZ", 52: "BA", 701: "ZZ", 702: "AAA"} {
		if got := letters(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
