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
	"time"

	"github.com/waxseal/waxseal/e2e/blackout"
)

const usage = `soak: the long tests, one after the other, with a report.

Usage:
  soak [flags]

  blackout   500 workflows on a real Temporal server lose their KMS, a real Vault, for half an hour; with a KMS that is
             slow, throttles or fails now and then, with workers that are killed meanwhile, and with a plain codec that
             has to lose workflows, or else the test proves nothing
  memory     64 goroutines seal and open for an hour; memory has to stay flat
  seals      10^8 seals; no data key, salt and nonce may come twice
  hostile    a Temporal server alters 100,000 responses to workers and clients; no secret may leave, and nothing that
             it makes up may come in

It ends with exit code 0 if all passed, 1 if something failed, was interrupted or was not run for lack of time, and 2 if
the command line is wrong. Ctrl-C ends it and still reports what is known.

Examples:
  make soak                                             all of it, about two hours and a half
  make soak SOAKFLAGS=-short                            a rehearsal of a few minutes
  make soak SOAKFLAGS='-memory 0 -seals 0 -hostile 0'   the blackout alone

Flags:
`

// settings are what the flags say.
type settings struct {
	blackout  time.Duration
	workflows int
	memory    time.Duration
	seals     int
	hostile   int
	total     time.Duration
	out       string
	root      string
}

// The responses that a hostile server alters.
const (
	hostileSoak  = 100_000
	hostileShort = 1_000
)

// The seals that envelope's test knows how to make.
const (
	sealsSoak  = 100_000_000
	sealsSuite = 10_000_000
	sealsShort = 100_000
)

func defaults() settings {
	return settings{blackout: 30 * time.Minute, workflows: 500, memory: time.Hour, seals: sealsSoak, hostile: hostileSoak, total: 4 * time.Hour}
}

// rehearsal is what -short stands for.
func rehearsal() settings {
	return settings{blackout: 45 * time.Second, workflows: 100, memory: time.Minute, seals: sealsShort, hostile: hostileShort, total: 15 * time.Minute}
}

func main() {
	if code, was := blackout.IsWorker(); was {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends us at once.
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs the soak and returns its exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "soak: error: %v\n", err)
		return 2
	}
	ok, err := run(ctx, s, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "soak: error: %v\n", err)
		if h, is := errors.AsType[interface {
			error
			Hint() string
		}](err); is {
			fmt.Fprintf(stderr, "soak: hint: %s\n", h.Hint())
		}
		return 1
	}
	if !ok {
		return 1
	}
	return 0
}

// parse reads the command line; what is wrong with it is an error.
func parse(args []string, stderr io.Writer) (settings, error) {
	s := defaults()
	var short bool
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are returned; help is printed below
	flags.DurationVar(&s.blackout, "blackout", s.blackout, "how `long` the KMS is away; 0 leaves the blackout out")
	flags.IntVar(&s.workflows, "workflows", s.workflows, "`number` of workflows that lose it")
	flags.DurationVar(&s.memory, "memory", s.memory, "how `long` to seal and open; 0 leaves it out")
	flags.IntVar(&s.seals, "seals", s.seals, "`number` of seals: 100000000, 10000000 or 100000; 0 leaves them out")
	flags.IntVar(&s.hostile, "hostile", s.hostile, "`number` of responses that a hostile server alters; 0 leaves it out")
	flags.DurationVar(&s.total, "total", s.total, "`time` for it all; what is not done by then is ended")
	flags.BoolVar(&short, "short", false, "a rehearsal of a few minutes: other defaults for all of these")
	flags.StringVar(&s.out, "out", "", "`folder` for the report (default build/soak in the repository)")
	flags.StringVar(&s.root, "root", "..", "the repository's root `folder`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return s, err
	} else if err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if short {
		told := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { told[f.Name] = true })
		s = s.shortened(told)
	}
	switch s.seals {
	case 0, sealsShort, sealsSuite, sealsSoak:
	default:
		return s, fmt.Errorf("-seals %d is none of 0, %d, %d, %d", s.seals, sealsShort, sealsSuite, sealsSoak)
	}
	if s.blackout < 0 || s.memory < 0 || s.hostile < 0 || s.total <= 0 || s.workflows < 1 {
		return s, errors.New("times and numbers must not be negative, nor -total and -workflows be 0")
	}
	return s, nil
}

// shortened gives each setting without a flag its value for a rehearsal.
func (s settings) shortened(told map[string]bool) settings {
	r := rehearsal()
	if !told["blackout"] {
		s.blackout = r.blackout
	}
	if !told["workflows"] {
		s.workflows = r.workflows
	}
	if !told["memory"] {
		s.memory = r.memory
	}
	if !told["seals"] {
		s.seals = r.seals
	}
	if !told["hostile"] {
		s.hostile = r.hostile
	}
	if !told["total"] {
		s.total = r.total
	}
	return s
}
