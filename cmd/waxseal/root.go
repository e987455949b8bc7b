package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// rootCommand returns the command line, ready to be run once.
func (a *app) rootCommand() *cobra.Command {
	cobra.EnableCommandSorting = false
	var showVersion bool
	root := &cobra.Command{
		Use:   "waxseal",
		Short: "KMS-backed envelope encryption for Temporal",
		Long: `KMS-backed envelope encryption for Temporal.

The codec server of "waxseal serve" lets the Temporal Web UI and the temporal
command line show payloads that workers have sealed. "decode" and "encode" do
the same for files, "inspect" tells what an envelope says without any key.

Without a configuration everything works on a local keyring in the data
directory: good for development and for a first look.`,
		Example: `  # Start the codec server; it prints what to set in the Web UI and the CLI.
  waxseal serve

  # Read a workflow's history.
  temporal workflow show --workflow-id order-1 -o json | waxseal decode`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return readVersion().write(a.out)
			}
			return cmd.Help()
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		// Runs after the check of flags and arguments: a later failure is not about them.
		PersistentPreRun: func(*cobra.Command, []string) { a.parsed = true },
	}
	root.Flags().BoolVar(&showVersion, "version", false, "tell the version, as the version command does")
	root.SetUsageFunc(printUsage)
	root.SuggestionsMinimumDistance = 2
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.serveCommand(), a.encodeCommand(), a.decodeCommand(), a.inspectCommand(), a.keysCommand(), a.doctorCommand(), a.devCommand(), a.versionCommand(),
		exitCodesTopic(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		group(completion)
	}
	return root
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{text: fmt.Sprintf("%s takes no arguments, and %q was given", cmd.CommandPath(), args[0]), hint: cmd.CommandPath() + " --help shows how"}
}

// group returns a command that only holds others.
func group(cmd *cobra.Command, members ...*cobra.Command) *cobra.Command {
	cmd.Args = noSuchCommand
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(members...)
	return cmd
}

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Tell about a command",
		Long:  "Tell about a command, as its --help does, or about a topic.",
		Example: `  waxseal help decode
  waxseal help keys rotate
  waxseal help exit-codes`,
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || found == nil || len(rest) > 0 {
				return noSuchCommand(found, rest)
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// completeCommands completes the names of commands and topics.
func completeCommands(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	parent, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `What the exit codes mean:

  0    All was done. Also: "serve" or "dev kms" was told to stop, and stopped.
  1    It failed; standard error says why and what to do. Also: "doctor" found
       a key that fails.
  2    The command line makes no sense: an unknown flag, a missing argument.
  3    Partly done: some payloads stay sealed ("decode") or could not be read
       ("inspect"). The rest was written.
  4    It failed for now: the KMS cannot be reached, or is over its quota. The
       same command may work later.
  130  Interrupted.`,
	}
}
