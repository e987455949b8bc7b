package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/kms/localkms"
)

// whenLayout is how moments are printed.
const whenLayout = "2006-01-02 15:04 MST"

// versionsCommand is a command that changes versions of a key.
type versionsCommand struct {
	*keyringFlags
	all, asJSON bool
	// alter changes the version of that number, or every version if it is "".
	alter func(ring *localkms.Keyring, name, number string) error
}

// wire completes cmd with what all commands that change versions share, and returns it.
func (a *app) wire(cmd *cobra.Command, alter func(ring *localkms.Keyring, name, number string) error) *cobra.Command {
	v := &versionsCommand{keyringFlags: a.keyringFlags(cmd), alter: alter}
	cmd.Flags().BoolVar(&v.all, "all", false, "every version of the key")
	jsonFlag(cmd, &v.asJSON)
	cmd.Args = v.check
	cmd.ValidArgsFunction = v.complete
	cmd.RunE = func(_ *cobra.Command, args []string) error { return v.run(args) }
	return cmd
}

// check accepts a key's name and a version, or --all: a forgotten version must not mean all of them.
func (v *versionsCommand) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return &usageError{text: "there is no name of a key", hint: cmd.CommandPath() + " NAME VERSION"}
	case v.all && len(args) > 1:
		return &usageError{text: "a version and --all were given", hint: "give one of them"}
	case !v.all && len(args) == 1:
		return &usageError{text: "there is no version", hint: cmd.CommandPath() + " NAME VERSION, or --all for every version; waxseal keys list tells them"}
	case len(args) == 2 && args[1] == "": // an unset variable of a script
		return &usageError{text: "the version is empty", hint: cmd.CommandPath() + " NAME VERSION, or --all for every version"}
	case len(args) > 2:
		return &usageError{text: fmt.Sprintf("%d arguments were given", len(args)), hint: cmd.CommandPath() + " takes a name and one version, or --all"}
	}
	return nil
}

func (v *versionsCommand) run(args []string) error {
	ring, err := v.open()
	if err != nil {
		return err
	}
	number := ""
	if !v.all {
		number = args[1]
	}
	if err := v.alter(ring, args[0], number); err != nil {
		return err
	}
	key, _, err := find(ring, args[0])
	if err != nil {
		return err
	}
	if err := v.app.show(v.asJSON, describeKey(ring, key), func(w io.Writer) error { return printVersions(w, key, number) }); err != nil {
		return err
	}
	if now := key.Primary(); now.State != localkms.Enabled {
		v.app.say(severityWarning, fmt.Sprintf("nothing can be sealed under key %s: version %s, which would, is off", key.Name, now.Version))
		v.app.say(severityHint, "waxseal keys rotate "+key.Name+" gives it a version that seals")
	}
	return nil
}

// printVersions writes the state of the version of that number, or of every version if it is "".
func printVersions(w io.Writer, key localkms.KeyInfo, number string) error {
	for _, one := range key.Versions {
		if number != "" && number != one.Version {
			continue
		}
		if _, err := fmt.Fprintf(w, "version %s of key %s %s\n", one.Version, key.Name, standing(one)); err != nil {
			return err
		}
	}
	return nil
}

// standing says what a state means for payloads that a version sealed.
func standing(v localkms.VersionInfo) string {
	switch v.State {
	case localkms.Enabled:
		if v.Primary {
			return "is enabled: it seals, and opens what it sealed"
		}
		return "is enabled: it opens what it sealed"
	case localkms.Disabled:
		return "is disabled: what it sealed does not open"
	case localkms.Pending:
		return "is to be destroyed at " + v.DestroyAt.Format(whenLayout) + "; waxseal keys restore takes that back until then"
	case localkms.Destroyed:
		return "was destroyed: what it sealed never opens again"
	}
	return string(v.State)
}

// complete completes the names of keys, and then their versions.
func (v *versionsCommand) complete(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 || v.all {
		return v.completeNames(cmd, args, begun)
	}
	var versions []cobra.Completion
	if ring, err := v.open(); err == nil {
		key, _, _ := find(ring, args[0])
		for _, one := range key.Versions {
			versions = append(versions, cobra.CompletionWithDesc(one.Version, string(one.State)))
		}
	}
	return versions, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) keysDisableCommand() *cobra.Command {
	return a.wire(&cobra.Command{
		Use:   "disable <name> <version>",
		Short: "Switch a version of a key off",
		Long: `Switch a version of a key off: what it sealed does not open, and if it is the
one that seals, nothing is sealed under the key. "waxseal keys enable" takes
that back.

Running programs go on for some minutes with the data keys that they hold in
memory. A version that is off already stays so, without an error.`,
		Example: `  # Does anything miss the first version?
  waxseal keys disable payments 1

  # Nothing opens any more.
  waxseal keys disable payments --all`,
	}, (*localkms.Keyring).Disable)
}

func (a *app) keysEnableCommand() *cobra.Command {
	return a.wire(&cobra.Command{
		Use:   "enable <name> <version>",
		Short: "Switch a version of a key on again",
		Long: `Switch a version of a key on again, at once in running programs too. One that
waits for its destruction is restored first, with "waxseal keys restore".`,
		Example: `  waxseal keys enable payments 1

  # Every version that is disabled.
  waxseal keys enable payments --all`,
	}, (*localkms.Keyring).Enable)
}

func (a *app) keysDestroyCommand() *cobra.Command {
	var sure bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "destroy <name> <version>",
		Short: "Destroy a version of a key, after a wait",
		Long: `Destroy a version of a key, after a wait. From then on nothing opens what it
sealed, in the Web UI or anywhere, and workflows that need it fail. Until then
"waxseal keys restore" takes it back.

Only what is disabled can be destroyed: see first that nothing misses it. What
waits already gets the new time. The key material leaves the keyring file
with the next change of it after the wait; copies and backups still have it.`,
		Example: `  # What is disabled is destroyed a week from now.
  waxseal keys destroy payments 1 --yes

  # Thirty days from now.
  waxseal keys destroy payments 1 --wait 720h --yes`,
	}
	a.wire(cmd, func(ring *localkms.Keyring, name, number string) error {
		_, err := ring.Destroy(name, number, wait)
		return err
	})
	cmd.Flags().DurationVar(&wait, "wait", localkms.DestroyWait, "until it is destroyed, a `duration` of up to ten years")
	cmd.Flags().BoolVar(&sure, "yes", false, "confirm it; without this nothing is done")
	change := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case wait <= 0 || wait > localkms.MaxDestroyWait:
			return &usageError{text: fmt.Sprintf("--wait is %v", wait), hint: fmt.Sprintf("give a duration above zero, of up to ten years (%v)", localkms.MaxDestroyWait)}
		case !sure:
			return &usageError{text: "nothing was done: what is destroyed cannot be brought back, and was not confirmed", hint: "the same with --yes does it"}
		}
		return change(cmd, args)
	}
	return cmd
}

func (a *app) keysRestoreCommand() *cobra.Command {
	return a.wire(&cobra.Command{
		Use:   "restore <name> <version>",
		Short: "Take back the destruction of a version",
		Long: `Take back the destruction of a version of a key that still waits for it. It is
disabled then; "waxseal keys enable" has it open again what it sealed.`,
		Example: `  waxseal keys restore payments 2

  # Every version that waits.
  waxseal keys restore payments --all`,
	}, (*localkms.Keyring).Restore)
}
