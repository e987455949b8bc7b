package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// cli is the temporal command as a user of this machine can type it.
type cli struct {
	command string
	missing bool // there is none
}

// findCLI looks for the temporal command where the shell does, and then where
// the tests have theirs.
func findCLI(ctx context.Context, lookPath func(string) (string, error), installed func(context.Context) (string, error)) cli {
	if _, err := lookPath("temporal"); err == nil {
		return cli{command: "temporal"}
	}
	if path, err := installed(ctx); err == nil {
		return cli{command: shellWord(path)}
	}
	return cli{command: "temporal", missing: true}
}

// suggest prints what to type into another terminal.
func suggest(out io.Writer, temporal cli, waxseal, dir, hostPort, endpoint string) {
	fmt.Fprintf(out, "\nThe Web UI has the codec server %s set. With the temporal CLI", endpoint)
	if temporal.missing {
		fmt.Fprint(out, ", which this machine does not have\n(e2e/servers/install.sh temporal-cli builds it; https://docs.temporal.io/cli has others)")
	}
	fmt.Fprintf(out, `:
  %[1]s workflow show --address %[2]s --workflow-id %[3]s --codec-endpoint %[4]s
  %[1]s workflow signal --address %[2]s --workflow-id %[5]s --name %[6]s --input '"you"' --codec-endpoint %[4]s
Without the codec server, with the key:
  %[1]s workflow show --address %[2]s --workflow-id %[3]s -o json | %[7]s decode --data-dir %[8]s
`, temporal.command, hostPort, orders[0].id, endpoint, orders[2].id, approval, waxseal, shellWord(dir))
}

// shellWord quotes text for a shell where that is needed.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:=@%,", r)
	}
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
