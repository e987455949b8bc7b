package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/kms/localkms"
)

func (a *app) keysCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "keys",
		Short: "Look after the keys of a local keyring",
		Long: `Look after the keys of a local keyring: a file with the keys themselves, for
development and for an installation of one machine. Keys in a KMS are looked
after there.`,
	},
		a.keysListCommand(), a.keysCreateCommand(), a.keysRotateCommand(),
		a.keysDisableCommand(), a.keysEnableCommand(), a.keysDestroyCommand(), a.keysRestoreCommand())
}

// keyringFlags choose the keyring.
type keyringFlags struct {
	source
	file  string
	given func(flag string) bool
}

func (a *app) keyringFlags(cmd *cobra.Command) *keyringFlags {
	f := &keyringFlags{source: source{app: a}, given: cmd.Flags().Changed}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.file, "keyring", "", "keyring `file`; without it, the one in the data directory")
	_ = cmd.MarkFlagFilename("keyring") // the flag is there
	f.dataDirFlag(cmd)
	return f
}

func (f *keyringFlags) open() (*localkms.Keyring, error) {
	if f.file != "" && f.dataDir != "" {
		return nil, &usageError{text: "--keyring and --data-dir both name a keyring", hint: "give one of them"}
	}
	for flag, value := range map[string]string{"keyring": f.file, "data-dir": f.dataDir} {
		if f.given(flag) && value == "" { // an unset variable of a script must not mean the default keyring
			return nil, &usageError{text: "--" + flag + " is empty", hint: "say which keyring, or leave --" + flag + " out for the one in the data directory"}
		}
	}
	path, err := filepath.Abs(f.file)
	if f.file == "" {
		path, err = f.keyring()
	}
	if err != nil {
		return nil, err
	}
	return localkms.OpenKeyring(path)
}

// oneKey checks that there is one argument, a key's name.
func oneKey(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return &usageError{text: "there is no name of a key", hint: cmd.CommandPath() + " NAME"}
	}
	return &usageError{text: fmt.Sprintf("%d names were given", len(args)), hint: cmd.CommandPath() + " takes one name"}
}

func (a *app) keysCreateCommand() *cobra.Command {
	var asJSON, ifMissing bool
	cmd := &cobra.Command{
		Use:   "create <name>",
		Short: "Make a key",
		Long: `Make a key, and the keyring file if there is none, and print the URI that names
the key in a policy file. A key that exists is an error and stays as it is,
or with --if-missing no error.`,
		Example: `  waxseal keys create orders

  # The same again is no error, for scripts.
  waxseal keys create orders --if-missing

  # A keyring in a place of its own.
  waxseal keys create orders --keyring ./team-keyring`,
		Args: oneKey, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := a.keyringFlags(cmd)
	cmd.Flags().BoolVar(&ifMissing, "if-missing", false, "leave a key that exists alone, without an error")
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		ring, err := f.open()
		if err != nil {
			return err
		}
		_, there, err := find(ring, args[0])
		if err != nil {
			return err
		}
		if f.file == "" {
			if err := makeDirectory(filepath.Dir(ring.Path())); err != nil {
				return err
			}
		}
		create := ring.Create
		if ifMissing {
			create = ring.Ensure
		}
		key, err := create(args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(describeKey(ring, key))
		}
		did := "made key " + key.Name
		if there {
			did = "key " + key.Name + " exists"
		}
		_, err = fmt.Fprintf(a.out, "%s (version %s) in %s\nits URI for a policy file: %s\n",
			did, key.Primary().Version, ring.Path(), localkms.URI(ring.Path(), key.Name))
		return err
	}
	return cmd
}

func (a *app) keysRotateCommand() *cobra.Command {
	var asJSON bool
	var ifOlder time.Duration
	cmd := &cobra.Command{
		Use:   "rotate <name>",
		Short: "Give a key a new version",
		Long: `Give a key a new version, which seals from now on, in running programs too.
Earlier versions keep opening what they sealed.

Each rotation adds a version; --if-older-than makes it safe to run again.`,
		Example: `  waxseal keys rotate payments

  # From a daily job: rotate once the version in use is 30 days old.
  waxseal keys rotate payments --if-older-than 720h`,
		Args: oneKey,
	}
	f := a.keyringFlags(cmd)
	cmd.Flags().DurationVar(&ifOlder, "if-older-than", 0, "rotate only if the version in use is older than this `duration`, such as 720h")
	jsonFlag(cmd, &asJSON)
	cmd.ValidArgsFunction = f.completeNames
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if f.given("if-older-than") && ifOlder <= 0 {
			return &usageError{text: fmt.Sprintf("--if-older-than is %v", ifOlder), hint: "give a duration above zero, such as 720h, or leave it out to rotate now"}
		}
		ring, err := f.open()
		if err != nil {
			return err
		}
		rotated := true
		if ifOlder > 0 {
			_, rotated, err = ring.RotateIfOlder(args[0], ifOlder)
		} else {
			_, err = ring.Rotate(args[0])
		}
		if err != nil {
			return err
		}
		key, _, err := find(ring, args[0])
		switch now := key.Primary(); {
		case err != nil:
			return err
		case asJSON:
			return a.printJSON(describeKey(ring, key))
		case rotated:
			_, err = fmt.Fprintf(a.out, "key %s seals with version %s from now on; earlier versions keep opening\n", key.Name, now.Version)
		default:
			_, err = fmt.Fprintf(a.out, "key %s stays at version %s, which is %s old\n", key.Name, now.Version, shortAge(time.Since(now.Created)))
		}
		return err
	}
	return cmd
}

// find looks up one key.
func find(ring *localkms.Keyring, name string) (key localkms.KeyInfo, there bool, err error) {
	keys, err := ring.List()
	for _, k := range keys {
		if k.Name == name {
			return k, true, nil
		}
	}
	return localkms.KeyInfo{}, false, err
}

// completeNames completes the names of keys. A keyring that cannot be read has none.
func (f *keyringFlags) completeNames(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if ring, err := f.open(); err == nil && len(args) == 0 {
		keys, _ := ring.List()
		for _, k := range keys {
			names = append(names, cobra.CompletionWithDesc(k.Name, "version "+k.Primary().Version))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
