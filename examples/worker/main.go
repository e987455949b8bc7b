// Command worker is the smallest Temporal worker with sealed payloads: an ordinary worker
// and one plugin.
//
// waxseal.yaml, in the working directory, says which keys seal what; TEMPORAL_ADDRESS and
// the rest of Temporal's environment configuration name the server. docs/worker.md explains
// it step by step.
package main

import (
	"context"
	"errors"
	"log"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

func main() {
	if err := run(context.Background()); err != nil {
		// The hint is not in the error's text.
		if e, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			log.Print("hint: ", e.Hint())
		}
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return err
	}

	registry := kms.NewRegistry(localkms.Backend, vaultkms.Backend)
	c, err := codec.Open(ctx, "waxseal.yaml", registry)
	if err != nil {
		return err
	}
	defer c.Close()
	options.Plugins = []client.Plugin{codec.NewPlugin(c)} // the one line

	cl, err := client.DialContext(ctx, options)
	if err != nil {
		return err
	}
	defer cl.Close()
	w := worker.New(cl, "greetings", worker.Options{})
	w.RegisterWorkflow(Greet)
	return w.Run(worker.InterruptCh())
}

// Greet returns a greeting. Its input and result never leave the worker in
// plaintext.
func Greet(_ workflow.Context, name string) (string, error) {
	return "hello " + name, nil
}
