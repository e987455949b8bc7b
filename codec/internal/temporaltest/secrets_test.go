package temporaltest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/codec/internal/temporaltest"
)

func TestSecretsAreFound(t *testing.T) {
	s := temporaltest.NewSecrets(rand.New(rand.NewPCG(1, 2)))
	for before := range 4 {
		text := []byte(strings.Repeat("x", before) + s.Of(7, "memo") + ` "and more`)
		twice := base64.URLEncoding.EncodeToString([]byte("y" + base64.StdEncoding.EncodeToString(text)))
		for name, b := range map[string][]byte{
			"open": text, "upper case": bytes.ToUpper(text), "base64": []byte("==" + base64.StdEncoding.EncodeToString(text)), "URL-safe base64": []byte(base64.RawURLEncoding.EncodeToString(text)),
			"hexadecimal": []byte(hex.EncodeToString(text)), "base64 twice": []byte(twice), "UTF-16": []byte(strings.Join(strings.Split(string(text), ""), "\x00")),
		} {
			if s.Find(b) == "" {
				t.Errorf("%s, %d before: not found", name, before)
			}
		}
		if got := s.All(text); len(got) != 1 || got[0] != s.Of(7, "memo") {
			t.Errorf("found %q", got)
		}
	}
	if found := s.Find([]byte(temporaltest.NewSecrets(rand.New(rand.NewPCG(3, 4))).Of(7, "memo"))); found != "" {
		t.Errorf("found another's secret %s", found)
	}
}
