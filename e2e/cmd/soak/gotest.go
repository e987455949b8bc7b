package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// goTest is a test of the repository in its long form.
type goTest struct {
	pkg  string // folder, from the root
	run  string // pattern
	args []string
	env  []string
	// within bounds it.
	within time.Duration
}

// follow runs the test; tick is called every second meanwhile. The test runs as a
// program of its own rather than below go test, so that ending it ends it.
func (g goTest) follow(ctx context.Context, root, dir string, tick func()) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	program := filepath.Join(dir, filepath.Base(g.pkg)+".test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./"+g.pkg) //nolint:gosec // our own tests
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the test of %s: %w\n%s", g.pkg, err, out)
	}
	defer func() { err = errors.Join(err, os.Remove(program)) }()
	log, err := os.Create(filepath.Join(dir, filepath.Base(g.pkg)+".log"))
	if err != nil {
		return fmt.Errorf("log the test of %s: %w", g.pkg, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	//nolint:gosec,noctx // our own test; Stop ends it
	cmd := exec.Command(program, append([]string{"-test.run", g.run, "-test.v", "-test.timeout", g.within.String()}, g.args...)...)
	cmd.Dir, cmd.Env = filepath.Join(root, g.pkg), append(os.Environ(), g.env...)
	p, err := servers.RunProgram("the test of "+g.pkg, cmd, log)
	if err != nil {
		return err
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			tick()
		case <-p.Ended():
			said := tailOf(log.Name())
			if err := p.Err(); err != nil {
				return fmt.Errorf("%w\n%s", err, said)
			}
			if !strings.Contains(said, "--- PASS") {
				return fmt.Errorf("%s has no test %s: it passed because there is none", g.pkg, g.run)
			}
			return nil
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), p.Stop())
		}
	}
}

// tailOf returns the end of a log.
func tailOf(file string) string {
	const most = 2000
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-most):])
}
