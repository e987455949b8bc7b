package vaulttest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

const (
	// startTimeout bounds one start; on an idle machine it takes 0.1 s.
	startTimeout = 30 * time.Second
	pollEvery    = 10 * time.Millisecond
	// startTries is how often a start is tried again: between choosing a free
	// port and Vault listening there, another process may take it.
	startTries = 5
	// logTail is how much of the server's log a failed start shows, in bytes.
	logTail = 2000
)

// watched runs "$@" such that it ends with us. A test binary that is killed, or panics
// after its timeout, runs no cleanup; but the pipe that is its child's third descriptor
// closes, read returns, and the watcher kills the server, which has the number $$.
const watched = `(read -r _ <&3; kill -9 $$) & exec "$@" 3<&-`

// process is one running Vault server.
type process struct {
	addr    string // http://127.0.0.1:port
	cmd     *exec.Cmd
	leash   *os.File // while we hold it open, the watcher lets the server live
	client  *http.Client
	exited  chan struct{}
	logPath string
	stop    sync.Once
}

// launch starts bin in development mode and waits until it serves. Its files go
// to dir; flags are further ones of its command line.
func launch(ctx context.Context, bin, dir, rootToken string, flags ...string) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	for range startTries {
		var p *process
		if p, err = spawn(ctx, bin, dir, rootToken, flags); err != nil {
			return nil, err
		}
		if err = p.waitReady(ctx); err == nil {
			return p, nil
		}
		p.kill()
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func spawn(ctx context.Context, bin, dir, rootToken string, flags []string) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, fmt.Errorf("vaulttest: find a free port: %w", err)
	}
	logFile, err := os.CreateTemp(dir, "vault-*.log")
	if err != nil {
		return nil, fmt.Errorf("vaulttest: create log: %w", err)
	}
	defer closeFile(logFile)
	watch, leash, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("vaulttest: create pipe: %w", err)
	}
	defer closeFile(watch)

	p := &process{
		addr:    fmt.Sprintf("http://127.0.0.1:%d", port),
		leash:   leash,
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, // no goroutine outlives a request
		exited:  make(chan struct{}),
		logPath: logFile.Name(),
	}
	// Not CommandContext: the server outlives the context that bounds its start.
	args := []string{
		"-c", watched, "vaulttest", bin, "server", "-dev", "-dev-root-token-id=" + rootToken,
		fmt.Sprintf("-dev-listen-address=127.0.0.1:%d", port), "-dev-no-store-token",
	}
	p.cmd = exec.Command("/bin/sh", append(args, flags...)...) //nolint:gosec,noctx // a test server, from a path the tester chose
	p.cmd.Dir = dir
	p.cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")} // none of the tester's own VAULT_ settings
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	p.cmd.ExtraFiles = []*os.File{watch}
	ownGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		closeFile(leash)
		return nil, fmt.Errorf("vaulttest: start Vault: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // how a killed server ended says nothing
		close(p.exited)
	}()
	return p, nil
}

// waitReady polls until the server answers that it is unsealed and active.
func (p *process) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.addr+"/v1/sys/health", nil)
		if err != nil {
			return fmt.Errorf("vaulttest: ask for health: %w", err)
		}
		if resp, err := p.client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-p.exited:
			return fmt.Errorf("vaulttest: Vault ended while starting; its log ends:\n%s", p.tail())
		case <-ctx.Done():
			return fmt.Errorf("vaulttest: Vault is not ready: %w; its log ends:\n%s", ctx.Err(), p.tail())
		}
	}
}

func (p *process) tail() []byte {
	log, err := os.ReadFile(filepath.Clean(p.logPath))
	if err != nil {
		return []byte("(no log)")
	}
	return bytes.TrimSpace(log[max(0, len(log)-logTail):])
}

// kill ends the server and its watcher, and waits until the server is gone.
func (p *process) kill() {
	p.stop.Do(func() {
		killGroup(p.cmd)
		closeFile(p.leash)
		<-p.exited
	})
}

// closeFile closes a file or pipe through which nothing of ours is lost.
func closeFile(f *os.File) { _ = f.Close() }

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
