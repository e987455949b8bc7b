package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes: 0 after a signal, 1 when the server cannot start, 2 for a bad
// command line.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	o, err := parseOptions(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "temporal-server: error: %v\ntemporal-server: hint: run it with --help\n", err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "temporal-server: error: %v\n", err)
		os.Exit(exitFailure)
	}
}

// readiness is the one line the server prints to standard output, as JSON,
// when every listener answers and every namespace can be used.
type readiness struct {
	Ready bool   `json:"ready"`
	GRPC  string `json:"grpc"`            // host:port of the frontend
	HTTP  string `json:"http"`            // host:port of the frontend's HTTP API
	UI    string `json:"ui,omitempty"`    // URL of the Web UI, absent without one
	DB    string `json:"db,omitempty"`    // database file, absent when in memory
	After string `json:"after,omitempty"` // time from start to ready
}

// run serves until ctx ends.
func run(ctx context.Context, o options, stdout io.Writer) error {
	start := time.Now()
	p, err := reservePorts(ctx, o)
	if err != nil {
		return err
	}
	s, err := newServer(o, p)
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return fmt.Errorf("start the Temporal server: %w", err)
	}
	defer func() { _ = s.Stop() }()

	ready := readiness{Ready: true, GRPC: address(p.frontend), HTTP: address(p.http), DB: o.dbFile}
	if o.uiPort != noUI {
		ui := newUI(o, p)
		go func() { _ = ui.Start() }() // Start logs and exits the process when it cannot listen
		defer ui.Stop()
		ready.UI = "http://" + address(p.ui)
	}
	if err := awaitReady(ctx, o, p); err != nil {
		return err
	}
	ready.After = time.Since(start).Round(time.Millisecond).String()
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return fmt.Errorf("print the readiness line: %w", err)
	}
	<-ctx.Done()
	return nil
}
