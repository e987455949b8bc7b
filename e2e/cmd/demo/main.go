package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// settings are what the flags say.
type settings struct {
	waxseal      string
	temporalPort int
	uiPort       int
	codecPort    int
	once         bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs the demo and returns its exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.waxseal, "waxseal", "../bin/waxseal", "the waxseal binary; make build makes it")
	flags.IntVar(&s.temporalPort, "temporal-port", 7233, "port of the Temporal server, 0 for a free one")
	flags.IntVar(&s.uiPort, "ui-port", 8233, "port of the Web UI, 0 for a free one")
	flags.IntVar(&s.codecPort, "codec-port", 8081, "port of the codec server, 0 for a free one")
	flags.BoolVar(&s.once, "once", false, "end when the orders are done instead of waiting for Ctrl-C")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || flags.NArg() > 0:
		return 2
	}
	if err := run(ctx, s, stdout); err != nil {
		fmt.Fprintf(stderr, "demo: error: %v\n", err)
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			fmt.Fprintf(stderr, "demo: hint: %s\n", h.Hint())
		}
		return 1
	}
	return 0
}
