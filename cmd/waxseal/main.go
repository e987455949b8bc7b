package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After a second signal, the process ends at once.
	context.AfterFunc(ctx, stop)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv}
	return a.main(ctx, os.Args[1:])
}

// app is what all commands share: the streams and the environment.
type app struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool)

	parsed bool // flags and arguments were accepted, and the command has begun
}

// main runs one command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.parsed {
		err = misused(cmd, err)
	}
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	a.report(err)
	return exitCode(err)
}
