package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/terminal"
	"github.com/waxseal/waxseal/kms/localkms"
)

// keyringJSON is what "keys list --json" prints.
type keyringJSON struct {
	Keyring string    `json:"keyring"`
	Keys    []keyJSON `json:"keys"`
}

type keyJSON struct {
	Name     string        `json:"name"`
	URI      string        `json:"uri"`
	ID       string        `json:"id"`
	Versions []versionJSON `json:"versions"`
}

type versionJSON struct {
	Version string         `json:"version"`
	State   localkms.State `json:"state"`
	Primary bool           `json:"primary"`
	Created time.Time      `json:"created"`
	// DestroyAt is left out unless the version waits for its destruction.
	DestroyAt time.Time `json:"destroyAt,omitzero"`
}

func describeKey(ring *localkms.Keyring, k localkms.KeyInfo) keyJSON {
	out := keyJSON{Name: k.Name, URI: localkms.URI(ring.Path(), k.Name), ID: k.ID}
	for _, v := range k.Versions {
		out.Versions = append(out.Versions, versionJSON{Version: v.Version, State: v.State, Primary: v.Primary, Created: v.Created, DestroyAt: v.DestroyAt})
	}
	return out
}

func (a *app) keysListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List keys and their versions",
		Long: `List the keys of a keyring and their versions: which one seals, which only open
what they sealed, and how old they are. No key material is shown.`,
		Example: `  waxseal keys list
  waxseal keys list --keyring ./team-keyring --json`,
		Args: noArguments, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := a.keyringFlags(cmd)
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(*cobra.Command, []string) error {
		ring, err := f.open()
		if err != nil {
			return err
		}
		keys, err := ring.List()
		if err != nil {
			return err
		}
		if asJSON {
			out := keyringJSON{Keyring: ring.Path(), Keys: []keyJSON{}}
			for _, k := range keys {
				out.Keys = append(out.Keys, describeKey(ring, k))
			}
			return a.printJSON(out)
		}
		if len(keys) == 0 {
			a.say(severityNote, "there are no keys in "+ring.Path())
			a.say(severityHint, "waxseal keys create NAME makes one; so does sealing something")
			return nil
		}
		return a.listKeys(keys)
	}
	return cmd
}

func (a *app) listKeys(keys []localkms.KeyInfo) error {
	table := terminal.Table{Header: []string{"KEY", ">VERSION", "STATE", "USE", "CREATED", ">AGE"}}
	for _, k := range keys {
		for _, v := range k.Versions {
			table.Row(k.Name, v.Version, string(v.State), use(v), v.Created.Format(whenLayout), shortAge(time.Since(v.Created)))
		}
	}
	return table.Write(a.out, terminal.StyleFor(a.out, a.lookup))
}

// use says what a version does.
func use(v localkms.VersionInfo) string {
	switch {
	case v.State == localkms.Pending:
		return "none, and gone at " + v.DestroyAt.Format(whenLayout)
	case v.State != localkms.Enabled:
		return "none"
	case v.Primary:
		return "seals, opens"
	}
	return "opens"
}

// shortAge is an age in its largest unit.
func shortAge(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
