//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// shows reports whether text shows b in a way that something here could print.
func shows(text string, b []byte) bool {
	for _, s := range []string{
		string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), base64.StdEncoding.EncodeToString(b)[:40],
		strings.Trim(fmt.Sprintf("%v", b), "[]"), strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte{"), "}"), fmt.Sprintf("% x", b),
	} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func TestSecretsDoNotShow(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	c, _, err := key.store.load()
	check(t, err)
	v := c.keys["k"].versions[0]
	material := v.material.bytes()
	for name, value := range map[string]any{
		"secret": v.material, "pointer": &v.material, "slice": []secret{v.material}, "field": struct{ S secret }{v.material},
		"version": v, "version value": *v, "entry": *c.keys["k"], "contents": *c, "key": key, "loaded": *key.loaded.Load(),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
				fmt.Fprintf(&out, verb+"\n", value)
			}
			asJSON, _ := json.Marshal(value)
			out.Write(asJSON)
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(h).Info("a key", "value", value)
			}
			if shows(out.String(), material) {
				t.Errorf("the material shows in:\n%s", out.String())
			}
		})
	}

	if got := fmt.Sprintf("%v %s %#v %d", v.material, v.material, v.material, v.material); got != strings.TrimSpace(strings.Repeat("[redacted] ", 4)) {
		t.Errorf("printed as %q", got)
	}
	if v.material.String() != redacted || v.material.GoString() != redacted || v.material.LogValue().String() != redacted {
		t.Error("not redacted")
	}
	for name, marshal := range map[string]func() ([]byte, error){
		"JSON": v.material.MarshalJSON, "text": v.material.MarshalText, "encoding/json": func() ([]byte, error) { return json.Marshal(v.material) },
	} {
		if _, err := marshal(); err == nil {
			t.Errorf("%s: marshalled", name)
		}
	}
}

func TestWipe(t *testing.T) {
	c := newContents()
	e := &entry{}
	e.add(time.Now())
	e.add(time.Now())
	c.keys["k"] = e
	c.wipe()
	for _, v := range e.versions {
		if !bytes.Equal(v.material.bytes(), make([]byte, materialSize)) {
			t.Errorf("version %d is not wiped", v.number)
		}
	}
}

func TestShows(t *testing.T) {
	b := newSecret().bytes()
	if !shows(fmt.Sprintf("x %v", b), b) || !shows(fmt.Sprintf("%#v", struct{ b []byte }{b}), b) || shows("[redacted]", b) {
		t.Error("shows does not see")
	}
}
