package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/atomicfile"
	"github.com/waxseal/waxseal/internal/devkms"
)

func (a *app) devCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "dev",
		Short: "Help with developing and trying out",
		Long:  `What helps with developing and trying out, and is not for production.`,
	}, a.devKMSCommand())
}

// devKMSFlags are the flags of "dev kms".
type devKMSFlags struct {
	devkms.Config
	policy           string
	rehearse, asJSON bool
}

// The addresses of "dev kms", fixed so that URIs in a policy file stay right.
const (
	devAWSAddress = "127.0.0.1:8071"
	devGCPAddress = "127.0.0.1:8072"
)

func (a *app) devKMSCommand() *cobra.Command {
	f := devKMSFlags{Config: devkms.Config{AWSAddress: devAWSAddress, GCPAddress: devGCPAddress}}
	cmd := &cobra.Command{
		Use:   "kms",
		Short: "Run AWS KMS and Google Cloud KMS on loopback, for development",
		Long: `Run an AWS KMS and a Google Cloud KMS of our own on loopback, so that awskms://
and gcpkms:// keys can be tried out without an account. They speak the services'
own protocols, so that the vendors' clients and tools talk to them, and do real
cryptography.

The keys are in memory: WHAT IS SEALED UNDER THEM IS LOST WHEN THIS STOPS.
Whoever reaches the ports can use them, so they listen on loopback only.

With --rehearse, lines on standard input say what goes wrong from then on, such
as "aws down", "gcp slow 300ms", "all throttle", and "all up" in the end.

It prints what to set and the keys' URIs, and runs until SIGINT or SIGTERM.`,
		Example: `  # Both, with a key each, and a policy file that names them.
  waxseal dev kms --write-policy dev.yaml

  # On ports that are free, for a script.
  waxseal dev kms --aws-listen 127.0.0.1:0 --gcp-listen 127.0.0.1:0 --json

  # One more key in each.
  waxseal dev kms --aws-alias alias/orders --gcp-key orders

  # As slow as the real ones, and with outages on command.
  waxseal dev kms --latency 25ms --rehearse`,
		Args: noArguments, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.devKMS(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.AWSAddress, "aws-listen", f.AWSAddress, "loopback `address` of AWS KMS; port 0 takes a free one")
	flags.StringVar(&f.GCPAddress, "gcp-listen", f.GCPAddress, "loopback `address` of Google Cloud KMS; port 0 takes a free one")
	flags.StringArrayVar(&f.AWSAliases, "aws-alias", nil, "make one more key in AWS KMS, with this `alias`; may be repeated")
	flags.StringArrayVar(&f.GCPKeys, "gcp-key", nil, "make one more key in Google Cloud KMS: its `name` as in projects/P/locations/L/keyRings/R/cryptoKeys/K, or K alone; may be repeated")
	flags.DurationVar(&f.Latency, "latency", 0, "how long each answer takes, as a `duration` such as 25ms")
	flags.BoolVar(&f.rehearse, "rehearse", false, "take what is to go wrong from standard input")
	flags.StringVar(&f.policy, "write-policy", "", "write a policy `file` that names all keys; one that is there and says anything else stays, and is an error")
	_ = cmd.MarkFlagFilename("write-policy", "yaml", "yml") // the flag is there
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

const devKMSWarning = "the keys are in memory: what is sealed under them is lost when this stops"

// devKMS runs both servers until ctx ends.
func (a *app) devKMS(ctx context.Context, f *devKMSFlags) error {
	if f.Latency < 0 {
		return &usageError{text: "--latency is negative", hint: "give a duration such as 25ms, or leave it out"}
	}
	running, err := devkms.Start(ctx, f.Config)
	if bad := (*devkms.Error)(nil); errors.As(err, &bad) && bad.Usage {
		return &usageError{text: bad.Error(), hint: bad.Hint()}
	}
	if err != nil {
		return err
	}
	defer running.Close()
	info := running.Info()
	if f.policy != "" {
		if err := writePolicy(f.policy, info.Policy()); err != nil {
			return err
		}
	}
	if err := a.show(f.asJSON, info, func(w io.Writer) error {
		return devSettings.Execute(w, map[string]any{"KMS": info, "Policy": info.Policy(), "File": f.policy, "Rehearse": f.rehearse})
	}); err != nil {
		return err
	}
	if f.rehearse {
		go a.rehearse(running) // ends with its input, or with the process
	}
	a.say(severityWarning, devKMSWarning)
	<-ctx.Done()
	a.say(severityNote, "stopped; the keys are gone")
	return nil
}

// writePolicy writes a new file, and none over another one.
func writePolicy(file, text string) error {
	switch old, err := os.ReadFile(file); {
	case err == nil && string(old) == text:
		return nil
	case err == nil:
		return advise(fmt.Errorf("write the policy file: %s is there, and says something else", file), "name a new file with --write-policy, or remove this one")
	case !errors.Is(err, fs.ErrNotExist):
		return advise(fmt.Errorf("write the policy file: %w", err), "name a new file with --write-policy")
	}
	if err := atomicfile.Write(file, []byte(text)); err != nil {
		return advise(fmt.Errorf("write the policy file: %w", err), "name a file in a folder that exists and that you may write to")
	}
	return nil
}

// devSettings prints all settings of other programs, ready to be copied.
var devSettings = template.Must(template.New("dev kms").Parse(`AWS KMS on {{.KMS.AWS.Endpoint}}, Region {{.KMS.AWS.Region}}. It takes these credentials:
{{range $name, $value := .KMS.Environment}}
  export {{$name}}={{$value}}{{end}}

Google Cloud KMS on {{.KMS.GCP.Endpoint}}, without TLS and without credentials.
{{if .File}}
The keys, which {{.File}} names too:
{{range .KMS.AWS.Keys}}
  {{.URI}}{{end}}{{range .KMS.GCP.Keys}}
  {{.URI}}{{end}}
{{else}}
A policy file for both, waxseal.yaml:

{{.Policy}}{{end}}
Then, with the variables above:

  waxseal doctor --config {{or .File "waxseal.yaml"}}
  waxseal serve --config {{or .File "waxseal.yaml"}}

The vendors' own tools work too:

  aws kms describe-key --endpoint-url {{.KMS.AWS.Endpoint}} --region {{.KMS.AWS.Region}} --key-id {{(index .KMS.AWS.Keys 0).Key}}

Vault has a development server of its own: vault server -dev
{{if .Rehearse}}
To have something go wrong, write here: aws, gcp or all, then up, down, deny,
stall, throttle, or slow and how slow, as in gcp slow 300ms.
{{end}}`))
