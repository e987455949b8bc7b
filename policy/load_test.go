package policy

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "waxseal.yaml")
	if err := os.WriteFile(good, []byte(tenants), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(good)
	if err != nil || len(p.Seal) != 5 {
		t.Fatalf("Load: %v, %v", p, err)
	}

	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(link); err != nil { // as Kubernetes mounts a ConfigMap
		t.Errorf("Load of a symbolic link: %v", err)
	}

	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("seals: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if _, err := Load(bad); !errors.As(err, &refused) || refused.File != bad || !strings.Contains(err.Error(), bad+":1:1: ") {
		t.Errorf("Load of a bad file: %v", err)
	}
}

func TestLoadExactlyLarge(t *testing.T) {
	text := []byte(tenants + "#")
	text = append(text, bytes.Repeat([]byte("x"), MaxFileSize-len(text))...)
	name := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err != nil {
		t.Errorf("Load of %d bytes: %v", len(text), err)
	}
	if err := os.WriteFile(name, append(text, "xxxxxxxxxxxxxx"...), 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if _, err := Load(name); !errors.As(err, &refused) || !strings.Contains(err.Error(), "larger than 128 KiB") {
		t.Errorf("Load of more: %v", err)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, file string
		text, hint string
		is         error
	}{
		{"missing", filepath.Join(dir, "missing.yaml"), "no such file or directory", "check the path; docs/policy.md has a file to start from", fs.ErrNotExist},
		{"a directory", dir, "is a directory", "name a readable YAML file", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Load(test.file)
			var e *readError
			if !errors.As(err, &e) || p != nil {
				t.Fatalf("Load: %v, %v, want a *readError", p, err)
			}
			if got, want := e.Error(), "policy: read "+test.file+": "+test.text; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if e.Hint() != test.hint {
				t.Errorf("hint %q", e.Hint())
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("is not %v", test.is)
			}
		})
	}
	// Tests may run as root, and no permission stops root.
	denied := &readError{File: "f", Err: &fs.PathError{Op: "open", Path: "f", Err: fs.ErrPermission}}
	if denied.Error() != "policy: read f: permission denied" || denied.Hint() != "let the user that runs this process read the file" {
		t.Errorf("text %q, hint %q", denied.Error(), denied.Hint())
	}
}
