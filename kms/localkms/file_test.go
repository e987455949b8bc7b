//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
)

// sample is a keyring of several keys and versions.
func sample() *contents {
	c := newContents()
	now := time.Date(2026, 1, 31, 8, 0, 0, 123, time.FixedZone("", 3600))
	for i, name := range []string{"payments", "a", "Recovery_2.eu-west"} {
		e := &entry{}
		for range i + 1 {
			e.add(now)
		}
		e.versions[0].state = Disabled
		c.keys[name] = e
	}
	life := &entry{}
	for range 4 {
		life.add(now)
	}
	life.versions[0].state, life.versions[0].material = Destroyed, holdSecret(nil)
	life.versions[1].state, life.versions[1].destroyAt = Pending, time.Date(2126, 1, 31, 8, 0, 0, 0, time.UTC)
	life.versions[2].state = Disabled
	c.keys["every-state"] = life
	return c
}

func TestFileRoundTrip(t *testing.T) {
	for name, c := range map[string]*contents{"no keys": newContents(), "several keys": sample()} {
		data := c.encode()
		if !json.Valid(data) {
			t.Errorf("%s: not JSON", name)
		}
		got, err := parse(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c, got, cmp.AllowUnexported(contents{}, entry{}, version{}),
			cmp.Comparer(func(a, b secret) bool { return bytes.Equal(a.bytes(), b.bytes()) })); diff != "" {
			t.Errorf("%s: another keyring came back (-want +got):\n%s", name, diff)
		}
		var compact bytes.Buffer
		check(t, json.Compact(&compact, data))
		if got, err := parse(compact.Bytes()); err != nil || !bytes.Equal(got.encode(), data) {
			t.Errorf("%s: spaced differently: %v", name, err)
		}
	}
}

func TestEncodeNeedsNoMoreRoom(t *testing.T) {
	c := sample()
	e := &entry{}
	for i := range uint32(1000) {
		e.add(time.Now())
		v := e.versions[i]
		v.number, v.state, v.destroyAt = 1<<32-1000+i, Pending, time.Now() // as long as they get
	}
	e.primary = 1<<32 - 1
	c.keys[strings.Repeat("n", maxNameSize)] = e
	size := 128
	for name, e := range c.keys {
		size += 128 + len(name) + versionRoom*len(e.versions)
	}
	if data := c.encode(); len(data) > size || cap(data) != cap(make([]byte, 0, size)) {
		t.Errorf("%d bytes in room for %d: growing leaves copies of key material behind", len(data), size)
	}
}

func TestParseRefuses(t *testing.T) {
	material := base64.StdEncoding.EncodeToString([]byte("this very secret key of 32 bytes"))
	const id = "k5ptxzjqm2dcv7wr"
	v := func(number, created, state, material string) string {
		return fmt.Sprintf(`{"version":%s,"created":%q,"state":%q,"material":%q}`, number, created, state, material)
	}
	good := v("1", "2026-01-31T08:00:00Z", "enabled", material)
	ring := func(keys string) string { return `{"waxsealKeyring":1,"id":"` + id + `","keys":{` + keys + `}}` }
	key := func(primary, versions string) string {
		return ring(`"k":{"primary":` + primary + `,"versions":[` + versions + `]}`)
	}
	pending := func(at string) string {
		return strings.Replace(v("1", "2026-01-31T08:00:00Z", "pending destruction", material), `,"material"`, `,"destroyAt":"`+at+`","material"`, 1)
	}
	for _, versions := range []string{good, pending("2126-01-31T08:00:00Z")} {
		if _, err := parse([]byte(key("1", versions))); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, data, says string }{
		{"empty", "", "it is empty"},
		{"spaces", " \n\t", "it is empty"},
		{"not JSON", "key: value\n", "not JSON: line 1"},
		{"cut short", key("1", good)[:90], "not JSON: line 1"},
		{"broken on line 3", "{\n\"waxsealKeyring\": 1,\n!", "not JSON: line 3"},
		{"two documents", key("1", good) + "{}", "not JSON"},
		{"null", "null", "waxsealKeyring is missing"},
		{"array", "[]", "wrong type: line 1"},
		{"another JSON", `{"kty":"oct"}`, "waxsealKeyring is missing"},
		{"null format", `{"waxsealKeyring":null}`, "waxsealKeyring is missing"},
		{"format of another type", `{"waxsealKeyring":"1"}`, "wrong type"},
		{"later format", strings.Replace(key("1", good), "1", "2", 1), "format is version 2, and this program reads version 1"},
		{"earlier format", strings.Replace(key("1", good), "1", "0", 1), "format is version 0"},
		{"huge format", strings.Replace(key("1", good), "1", "99999999999999999999", 1), "wrong type"},
		{"no ID", `{"waxsealKeyring":1,"keys":{}}`, "id is not a keyring's ID"},
		{"short ID", `{"waxsealKeyring":1,"id":"abc","keys":{}}`, "id is not a keyring's ID"},
		{"upper-case ID", `{"waxsealKeyring":1,"id":"K5PTXZJQM2DCV7WR","keys":{}}`, "id is not a keyring's ID"},
		{"no keys", `{"waxsealKeyring":1,"id":"` + id + `"}`, "not as this program writes it"},
		{"null keys", `{"waxsealKeyring":1,"id":"` + id + `","keys":null}`, "not as this program writes it"},
		{"keys of another type", `{"waxsealKeyring":1,"id":"` + id + `","keys":[]}`, "wrong type"},
		{"name with a space", ring(`"a b":{"primary":1,"versions":[` + good + `]}`), "name that is not allowed"},
		{"empty name", ring(`"":{"primary":1,"versions":[` + good + `]}`), "name that is not allowed"},
		{"key twice", ring(`"k":{"primary":1,"versions":[` + good + `]},"k":{"primary":1,"versions":[` + good + `]}`), "a name stands twice"},
		{"field twice", strings.Replace(key("1", good), `"primary":1`, `"primary":1,"primary":1`, 1), "a name stands twice"},
		{"field in other case", strings.Replace(key("1", good), `"primary"`, `"Primary"`, 1), "in other case"},
		{"fields in another order", `{"id":"` + id + `","waxsealKeyring":1,"keys":{}}`, "in another order"},
		{"escaped name", ring(`"\u006b":{"primary":1,"versions":[` + good + `]}`), "written in another way"},
		{"unknown field", strings.Replace(key("1", good), `"keys"`, `"comment":"mine","keys"`, 1), "a field that is not known"},
		{"unknown field of a version", key("1", strings.Replace(good, `"state"`, `"note":"x","state"`, 1)), "a field that is not known"},
		{"no versions", key("1", ""), "key k: primary 1 is not among its versions"},
		{"no primary", key("0", good), "key k: primary 0 is not among its versions"},
		{"unknown primary", key("2", good), "key k: primary 2 is not among its versions"},
		{"version 0", key("0", v("0", "2026-01-31T08:00:00Z", "enabled", material)), "key k: version 0 after version 0"},
		{"version twice", key("1", good+","+good), "version 1 after version 1"},
		{"version too large", key("1", v("4294967296", "2026-01-31T08:00:00Z", "enabled", material)), "wrong type"},
		{"negative version", key("1", v("-1", "2026-01-31T08:00:00Z", "enabled", material)), "wrong type"},
		{"broken time", key("1", v("1", "yesterday", "enabled", material)), "key k: version 1: created is not"},
		{"time in another zone", key("1", v("1", "2026-01-31T08:00:00+01:00", "enabled", material)), "created is not"},
		{"time with a fraction", key("1", v("1", "2026-01-31T08:00:00.5Z", "enabled", material)), "created is not"},
		{"unknown state", key("1", v("1", "2026-01-31T08:00:00Z", "switched off", material)), "state is not one that is known"},
		{"no state", key("1", v("1", "2026-01-31T08:00:00Z", "", material)), "state is not one that is known"},
		{"destroyed with material", key("1", v("1", "2026-01-31T08:00:00Z", "destroyed", material)), "material has 32 bytes, want 0"},
		{"destroyed with empty material", key("1", v("1", "2026-01-31T08:00:00Z", "destroyed", "")), "written in another way"},
		{"pending without a time", key("1", v("1", "2026-01-31T08:00:00Z", "pending destruction", material)), "destroyAt is not"},
		{"pending at a broken time", key("1", pending("soon")), "destroyAt is not"},
		{"pending at a time in another zone", key("1", pending("2126-01-31T08:00:00+01:00")), "destroyAt is not"},
		{"enabled but to be destroyed", key("1", strings.Replace(pending("2126-01-31T08:00:00Z"), "pending destruction", "enabled", 1)), "written in another way"},
		{"short material", key("1", v("1", "2026-01-31T08:00:00Z", "enabled", "c2VjcmV0")), "material has 6 bytes, want 32"},
		{"no material", key("1", v("1", "2026-01-31T08:00:00Z", "enabled", "")), "material has 0 bytes"},
		{"material that is not base64", key("1", v("1", "2026-01-31T08:00:00Z", "enabled", "*"+material)), "not base64"},
		{"material with bits to spare", key("1", v("1", "2026-01-31T08:00:00Z", "enabled", strings.Replace(material, "M=", "N=", 1))), "written in another way"},
		{"material with a line break", key("1", strings.Replace(good, material, material[:8]+`\n`+material[8:], 1)), "written in another way"},
		{"material in the wrong place", key("1", v("1", material, material, material)), "created is not"},
		{"material as a name", ring(`"` + material + `":{"primary":1,"versions":[` + good + `]}`), "name that is not allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse([]byte(tt.data))
			if err == nil || c != nil {
				t.Fatal("not refused")
			}
			wantError(t, report("open", "", err), kms.Unavailable, tt.says, "nothing was changed")
			if shows(err.Error(), []byte("this very secret key of 32 bytes")) {
				t.Errorf("the material shows in the error: %v", err)
			}
		})
	}
	if !strings.HasSuffix(material, "M=") {
		t.Error("the case of bits to spare is not what it says")
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"k": true, "payments": true, "Payments-2.eu_west": true, "0": true, strings.Repeat("n", maxNameSize): true,
		"": false, strings.Repeat("n", maxNameSize+1): false, "a b": false, "a/b": false, "a@1": false, "a#b": false, "-x": false, ".": false, "..": false,
		"é": false, "a\x00": false, "a%41": false, "_a": false,
	} {
		err := checkName(name)
		if (err == nil) != ok {
			t.Errorf("checkName(%q) = %v", name, err)
		}
		if err != nil {
			wantError(t, report("open", "", err), kms.Invalid, "name the key with letters")
		}
		if ok {
			if err := kms.CheckID(newContents().keyID(name)); err != nil {
				t.Errorf("%q cannot be recorded: %v", name, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(newContents().encode())
	f.Add(sample().encode())
	f.Add([]byte(`{"waxsealKeyring":1,"id":"k5ptxzjqm2dcv7wr","keys":{"k":{"primary":1,"versions":[]}}}`))
	f.Add([]byte(`{"waxsealKeyring":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		c, err := parse(data)
		if !bytes.Equal(data, before) {
			t.Fatal("parse changed its input")
		}
		if err != nil {
			if c != nil {
				t.Fatal("contents and an error")
			}
			wantError(t, report("open", "", err), kms.Unavailable)
			return
		}
		written := c.encode()
		again, err := parse(written)
		if err != nil {
			t.Fatalf("what was parsed is written so that it is refused: %v", err)
		}
		if !bytes.Equal(again.encode(), written) {
			t.Fatal("writing is not stable")
		}
		if !sameJSON(data, c) {
			t.Fatal("writing it back would change it")
		}
	})
}
