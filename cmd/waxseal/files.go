package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/atomicfile"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/internal/terminal"
)

// atMostOneFile refuses more than one argument.
func atMostOneFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{text: fmt.Sprintf("%d files were given", len(args)), hint: cmd.CommandPath() + " takes one file, or standard input"}
	}
	return nil
}

// read returns the whole of the file that args name, or of standard input.
func (a *app) read(ctx context.Context, args []string) ([]byte, error) {
	if len(args) == 0 || args[0] == "-" {
		if terminal.Is(a.in) {
			a.say(severityNote, "reading from the terminal; end with Ctrl-D")
		}
		return readAll(ctx, a.in, "standard input")
	}
	f, err := os.Open(args[0])
	if err != nil {
		hint := "name a file that you may read, or give it as standard input"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "check the path, or give the payloads as standard input"
		}
		return nil, advise(err, hint)
	}
	defer func() { _ = f.Close() }() // only read from
	return readAll(ctx, f, args[0])
}

// readAll reads to the end, or until ctx ends: a read from a terminal or a pipe may block forever.
func readAll(ctx context.Context, r io.Reader, name string) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, payloaddoc.MaxSize+1)) // one more, to see a file that is too large
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		if r.err != nil {
			return nil, advise(fmt.Errorf("read %s: %w", name, atomicfile.Cause(r.err)), "name a readable file")
		}
		return r.text, nil
	}
}

// output is where a command writes.
type output struct{ file string }

func (o *output) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "output", "o", "", "write to this `file`, which only you may read then, all or nothing; default standard output")
	_ = cmd.MarkFlagFilename("output") // the flag is there
}

func (a *app) write(o output, data []byte) error {
	if o.file == "" || o.file == "-" {
		_, err := a.out.Write(data)
		return err
	}
	err := atomicfile.Write(o.file, data)
	if errors.Is(err, atomicfile.ErrIrregular) {
		return advise(err, "name a file, or leave -o out and redirect standard output")
	}
	if err != nil {
		return advise(err, "name a file in a folder that exists and that you may write to")
	}
	return nil
}
