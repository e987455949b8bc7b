package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"
)

// gorace keeps binaries with the race detector from sleeping for a second when
// they exit, which is its default.
const gorace = "GORACE=atexit_sleep_ms=10"

// baseEnv is what the binary's environment has in every test: what the test
// tools want of it, and nothing of the tester's own.
func baseEnv(home, path string) []string {
	return []string{gorace, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), "HOME=" + home, "PATH=" + path}
}

// patience bounds how long a server may take to listen, or to end.
const patience = 30 * time.Second

// running is a "waxseal serve" in a process of its own.
type running struct {
	cmd            *exec.Cmd
	stdout, stderr liveOutput
	ended          chan struct{} // closed once err is set
	err            error

	url, admin string
	stdin      io.WriteCloser // of those that take lines
}

// liveOutput is what a process writes while a test reads it.
type liveOutput struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

func (o *liveOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

func (o *liveOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// The line that says that the server listens, in both formats of the log.
var (
	readyLine = regexp.MustCompile(`(?m)^.*(msg=listening |"msg":"listening",).*\n`)
	readyURL  = regexp.MustCompile(`\burl"?[=:]"?(http://[^" \n]+)`)
	adminURL  = regexp.MustCompile(`\badminUrl"?[=:]"?(http://[^" \n]+)`)
)

// startServer runs "waxseal serve" and returns once it listens.
func startServer(ctx context.Context, dir string, env, args []string) (*running, error) {
	return start(ctx, exec.Command("waxseal", append([]string{"serve"}, args...)...), dir, env) //nolint:noctx // ended by a signal, which is what is tested
}

func start(ctx context.Context, cmd *exec.Cmd, dir string, env []string) (*running, error) {
	r, err := startUntil(ctx, cmd, dir, env, said(readyLine))
	if err != nil {
		return nil, err
	}
	line := readyLine.FindString(r.stderr.String())
	r.url, r.admin = submatch(readyURL, line), submatch(adminURL, line)
	return r, nil
}

// said is whether something that text matches was written to standard error.
func said(text *regexp.Regexp) func(*running) bool {
	return func(r *running) bool { return text.MatchString(r.stderr.String()) }
}

// startUntil returns once it is ready.
func startUntil(ctx context.Context, cmd *exec.Cmd, dir string, env []string, ready func(*running) bool) (*running, error) {
	r := &running{cmd: cmd, ended: make(chan struct{})}
	r.stderr.wrote = make(chan struct{}, 1)
	r.stdout.wrote = r.stderr.wrote
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &r.stdout, &r.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(r.ended)
		r.err = cmd.Wait()
	}()
	return r, r.await(ctx, ready)
}

// await waits until something is so that shows in what is written.
func (r *running) await(ctx context.Context, ready func(*running) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !ready(r) {
		select {
		case <-r.stderr.wrote:
		case <-r.ended:
			return fmt.Errorf("the server ended, %w: %s", r.err, r.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready, %w: %s", r.stop(os.Kill), r.stderr.String())
		}
	}
	return nil
}

func submatch(r *regexp.Regexp, s string) string {
	if m := r.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// stop sends a signal, unless the server has ended already, and returns how it ended.
func (r *running) stop(signal os.Signal) error {
	select {
	case <-r.ended:
		return r.err
	default:
	}
	_ = r.cmd.Process.Signal(signal) // if it has just ended, the next line sees it
	select {
	case <-r.ended:
	case <-time.After(patience):
		_ = r.cmd.Process.Kill()
		<-r.ended
		return fmt.Errorf("the server did not stop: %s", r.stderr.String())
	}
	return r.err
}
