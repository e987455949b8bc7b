package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/kms/vaultkms"
	"github.com/waxseal/waxseal/policy"
)

const (
	// defaultKey is the key of the embedded default's keyring.
	defaultKey = "default"
	// defaultNamespace is what the embedded default seals for without a namespace.
	defaultNamespace = "default"
	keyringFile      = "keyring"
)

// registry returns the backends of this program. Keys of one registry share connections and logins.
func registry() *kms.Registry {
	return kms.NewRegistry(awskms.Backend, gcpkms.NewBackend(), localkms.Backend, vaultkms.NewBackend())
}

// source is where keys and rules come from: a policy file, or the embedded default in the data directory.
type source struct {
	app     *app
	config  string
	dataDir string

	made  func(keyring string) // called when the embedded default's keyring was made
	hooks codec.Hooks          // observe the codec
}

func (s *source) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.config, "config", "", "policy `file` (waxseal.yaml) with keys and rules; without one, all is sealed under the local keyring in the data directory")
	s.dataDirFlag(cmd)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // the flag is there
}

func (s *source) dataDirFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.dataDir, "data-dir", "", "data `directory` with the local keyring (default $XDG_DATA_HOME/waxseal or ~/.local/share/waxseal)")
	_ = cmd.MarkFlagDirname("data-dir") // the flag is there
}

// directory returns the data directory, an absolute path.
func (s *source) directory() (string, error) {
	if s.dataDir != "" {
		return filepath.Abs(s.dataDir)
	}
	if xdg, _ := s.app.lookup("XDG_DATA_HOME"); filepath.IsAbs(xdg) {
		return filepath.Join(xdg, "waxseal"), nil
	}
	if home, _ := s.app.lookup("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "waxseal"), nil
	}
	return "", &usageError{text: "there is no data directory: HOME is not set", hint: "say where it is with --data-dir"}
}

// keyring returns the path of the data directory's keyring.
func (s *source) keyring() (string, error) {
	dir, err := s.directory()
	return filepath.Join(dir, keyringFile), err
}

// makeDirectory makes the data directory.
func makeDirectory(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return advise(fmt.Errorf("make the data directory: %w", err), "name a folder that you may write to with --data-dir")
	}
	return nil
}

// forSealing opens the codec, and makes the embedded default's keyring if there is none.
func (s *source) forSealing(ctx context.Context) (*codec.Codec, error) {
	if s.config != "" {
		return s.configured(ctx)
	}
	path, err := s.keyring()
	if err != nil {
		return nil, err
	}
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	_, err = os.Lstat(path)
	made := errors.Is(err, fs.ErrNotExist)
	c, err := s.embedded(ctx, path)
	if err == nil && made {
		s.made(path)
	}
	return c, err
}

// forOpening opens the codec, and makes no key: nothing was ever sealed under a new one.
func (s *source) forOpening(ctx context.Context) (*codec.Codec, error) {
	if s.config != "" {
		return s.configured(ctx)
	}
	path, err := s.existing("there is no key to open it with", "pass the --config or --data-dir that it was sealed with; waxseal inspect tells the keys that it needs")
	if err != nil {
		return nil, err
	}
	return s.embedded(ctx, path)
}

// rules returns the policy. It opens and makes no key.
func (s *source) rules() (*policy.Policy, error) {
	if s.config != "" {
		return policy.Load(s.config)
	}
	path, err := s.existing("there is no key yet", "name a policy file with --config; or waxseal serve makes this keyring and its key")
	if err != nil {
		return nil, err
	}
	return policy.Default(localkms.URI(path, defaultKey)), nil
}

// existing returns the path of the embedded default's keyring. If the keyring lacks the default key, missing says what that
// means and hint what to do.
func (s *source) existing(missing, hint string) (path string, err error) {
	if path, err = s.keyring(); err != nil {
		return "", err
	}
	keyring, err := localkms.OpenKeyring(path)
	if err != nil {
		return "", err
	}
	if _, there, err := find(keyring, defaultKey); err != nil || there {
		return path, err
	}
	return "", advise(fmt.Errorf("%s: no key %q in the keyring %s", missing, defaultKey, path), hint)
}

// embedded opens the codec of the embedded default.
func (s *source) embedded(ctx context.Context, keyring string) (*codec.Codec, error) {
	return codec.New(ctx, codec.Config{Policy: policy.Default(localkms.URI(keyring, defaultKey)), Registry: registry(), Hooks: s.hooks})
}

// configured opens the codec of the policy file.
func (s *source) configured(ctx context.Context) (*codec.Codec, error) {
	p, err := policy.Load(s.config)
	if err != nil {
		return nil, fmt.Errorf("codec: open: %w", err)
	}
	return codec.New(ctx, codec.Config{Policy: p, Registry: registry(), Hooks: s.hooks})
}
