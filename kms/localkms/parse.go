package localkms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// The file as encoding/json reads it.
type (
	fileKeyring struct {
		Format int                `json:"waxsealKeyring"`
		ID     string             `json:"id"`
		Keys   map[string]fileKey `json:"keys"`
	}
	fileKey struct {
		Primary  uint32        `json:"primary"`
		Versions []fileVersion `json:"versions"`
	}
	fileVersion struct {
		Version uint32 `json:"version"`
		Created string `json:"created"`
		State   State  `json:"state"`
		// DestroyAt only of a Pending version, Material not of a Destroyed one.
		DestroyAt string `json:"destroyAt"`
		Material  []byte `json:"material"`
	}
)

// parse reads a keyring file. It accepts what encode writes, differently spaced at most, so
// that writing it back loses nothing. Its errors name places and quote no values.
func parse(data []byte) (*contents, error) {
	bad := func(detail string) error {
		return problem(kms.Unavailable, detail,
			"nothing was changed; restore the file from a backup, or move it away to start with a new keyring (what was sealed under this one then stays sealed)", nil)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, bad("it is empty")
	}
	var head struct {
		Format *int64 `json:"waxsealKeyring"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, bad(jsonProblem(data, err))
	}
	switch {
	case head.Format == nil:
		return nil, bad("it is JSON, but no keyring: waxsealKeyring is missing")
	case *head.Format != fileFormat:
		return nil, problem(kms.Unavailable, fmt.Sprintf("its format is version %d, and this program reads version %d", *head.Format, fileFormat),
			"nothing was changed; use the version of waxseal that wrote the file, or a later one", nil)
	}
	var f fileKeyring
	err := json.Unmarshal(data, &f)
	if err != nil {
		err = errors.New(jsonProblem(data, err))
	} else {
		err = f.check()
	}
	if err != nil {
		f.wipe()
		return nil, bad(err.Error())
	}
	c := f.contents()
	if !sameJSON(data, c) {
		c.wipe()
		return nil, bad(unlikeOurs(data))
	}
	return c, nil
}

// check says what is wrong with the file's values.
func (f fileKeyring) check() error {
	if raw, err := base32Lower().DecodeString(f.ID); err != nil || len(raw) != idBytes {
		return errors.New("id is not a keyring's ID")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Keys)) {
		if checkName(name) != nil {
			return errors.New("keys holds a name that is not allowed")
		}
		if err := f.Keys[name].check(); err != nil {
			return fmt.Errorf("key %s: %w", name, err)
		}
	}
	return nil
}

func (k fileKey) check() error {
	primary, last := false, uint32(0)
	for _, v := range k.Versions {
		if v.Version <= last {
			return fmt.Errorf("version %d after version %d: they do not ascend", v.Version, last)
		}
		if err := v.check(); err != nil {
			return fmt.Errorf("version %d: %w", v.Version, err)
		}
		last = v.Version
		primary = primary || v.Version == k.Primary
	}
	if !primary {
		return fmt.Errorf("primary %d is not among its versions", k.Primary)
	}
	return nil
}

func (v fileVersion) check() error {
	if !isTime(v.Created) {
		return errors.New("created is not a UTC time in whole seconds")
	}
	material := materialSize
	switch v.State {
	case Enabled, Disabled:
	case Pending:
		if !isTime(v.DestroyAt) {
			return errors.New("destroyAt is not a UTC time in whole seconds")
		}
	case Destroyed:
		material = 0
	default:
		return errors.New("state is not one that is known here")
	}
	if len(v.Material) != material {
		return fmt.Errorf("material has %d bytes, want %d", len(v.Material), material)
	}
	return nil
}

// isTime reports whether s is a time as encode writes it.
func isTime(s string) bool {
	at, err := time.Parse(time.RFC3339, s)
	return err == nil && at.UTC().Format(time.RFC3339) == s
}

// contents returns what a checked file says, and takes over its material.
func (f fileKeyring) contents() *contents {
	c := &contents{id: f.ID, keys: make(map[string]*entry, len(f.Keys))}
	for name, k := range f.Keys {
		e := &entry{primary: k.Primary}
		for _, v := range k.Versions {
			created, _ := time.Parse(time.RFC3339, v.Created) // checked
			read := &version{number: v.Version, created: created.UTC(), state: v.State, material: holdSecret(v.Material)}
			if v.State == Pending {
				destroyAt, _ := time.Parse(time.RFC3339, v.DestroyAt) // checked
				read.destroyAt = destroyAt.UTC()
			}
			e.versions = append(e.versions, read)
		}
		c.keys[name] = e
	}
	return c
}

// wipe zeroes what was read of the material.
func (f fileKeyring) wipe() {
	for _, k := range f.Keys {
		for _, v := range k.Versions {
			clear(v.Material)
		}
	}
}

// sameJSON reports whether c, written out, is data but for spaces. That finds
// names that stand twice or are not known, which encoding/json lets pass.
func sameJSON(data []byte, c *contents) bool {
	written := c.encode()
	defer clear(written)
	got, want := bytes.NewBuffer(make([]byte, 0, len(data))), bytes.NewBuffer(make([]byte, 0, len(written)))
	gotErr, wantErr := json.Compact(got, data), json.Compact(want, written)
	same := gotErr == nil && wantErr == nil && bytes.Equal(got.Bytes(), want.Bytes())
	clear(got.Bytes())
	clear(want.Bytes())
	return same
}

// unlikeOurs says why data is not what encode would write.
func unlikeOurs(data []byte) string {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(new(fileKeyring)); err != nil {
		return "it holds a field that is not known here"
	}
	return "it is not as this program writes it: a name stands twice, in other case or in another order, or a value is written in another way"
}

// jsonProblem says where data is not JSON, or not of the right type. It does not
// print err, which may quote a value.
func jsonProblem(data []byte, err error) string {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return "it is not JSON: line " + lineAt(data, e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return "a value has the wrong type: line " + lineAt(data, e.Offset)
	}
	return "a material is not base64"
}

func lineAt(data []byte, offset int64) string {
	return strconv.Itoa(1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte{'\n'}))
}
