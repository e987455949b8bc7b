package format_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/envelope/format"
)

// TestUnderFIPSOnly runs all other tests of this package once more in a process
// of its own, in which the Go Cryptographic Module refuses whatever FIPS 140
// does not approve.
func TestUnderFIPSOnly(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^Test", "-test.skip=^TestUnderFIPSOnly$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", wantFIPS+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("under GODEBUG=fips140=only: %v\n%s", err, out)
	}
	for _, test := range []string{"TestVectors", "TestSpecificationDecoder", "TestRoundTripProperty", "TestRewrapProperty"} {
		if !strings.Contains(string(out), "--- PASS: "+test+" ") {
			t.Errorf("%s did not run", test)
		}
	}
}

// TestSuiteRefusesOtherKeySizes reaches below the length check of the exported
// functions: what the standard library refuses comes back as an error.
func TestSuiteRefusesOtherKeySizes(t *testing.T) {
	if err := format.NewAEAD(pattern(31, 1)); err == nil {
		t.Error("AES with a key of 31 bytes")
	}
	_, err := format.Derive(pattern(13, 1), new([format.SaltSize]byte))
	if refused := err != nil; refused != fips140.Enforced() {
		t.Errorf("HKDF with a key of 104 bits: error %v, FIPS 140 enforced: %t", err, fips140.Enforced())
	}
}
