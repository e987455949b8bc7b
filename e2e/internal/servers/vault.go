package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"
)

// VaultToken is the root token of every Vault that RunVault starts.
const VaultToken = "root"

const (
	vaultPoll = 20 * time.Millisecond
	// vaultTries is how often a start is tried: between choosing a free port and
	// Vault listening there, another process may take it.
	vaultTries = 5
)

// Vault is a Vault server that runs in development mode, in memory. Tests of the
// root module have internal/vaulttest; this one also serves programs.
type Vault struct {
	Addr string // http://127.0.0.1:port, as VAULT_ADDR wants it
	*process
}

// RunVault starts a Vault server and returns when it answers. ctx bounds the
// start; Stop ends the server.
func RunVault(ctx context.Context) (*Vault, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	path, err := find(ctx, programVault)
	if err != nil {
		return nil, err
	}
	var failed error
	for range vaultTries {
		v, err := runVault(ctx, path)
		if err == nil {
			return v, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func runVault(ctx context.Context, path string) (*Vault, error) {
	listen, err := freeAddress(ctx)
	if err != nil {
		return nil, fmt.Errorf("servers: find a port for Vault: %w", err)
	}
	//nolint:gosec,noctx // our own program; it outlives ctx, which is for the start alone
	cmd := exec.Command(path, "server", "-dev", "-dev-root-token-id="+VaultToken, "-dev-listen-address="+listen, "-dev-no-store-token")
	cmd.Env = append(environWithout("VAULT_"), "HOME=/nonexistent")
	p, err := startProcess("the Vault server", cmd, nil)
	if err != nil {
		return nil, err
	}
	v := &Vault{Addr: "http://" + listen, process: p}
	if err := v.waitReady(ctx); err != nil {
		return nil, errors.Join(p.failure(err), p.Stop())
	}
	return v, nil
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (v *Vault) waitReady(ctx context.Context) error {
	again := time.NewTicker(vaultPoll)
	defer again.Stop()
	for {
		if v.Do(ctx, http.MethodGet, "sys/health", nil) == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-v.exited:
			return v.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// NewKey makes a transit key, and the engine at transit/ if it is not there yet.
func (v *Vault) NewKey(ctx context.Context, name string) error {
	if v.Do(ctx, http.MethodGet, "sys/mounts/transit/tune", nil) != nil {
		if err := v.Do(ctx, http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"}); err != nil {
			return err
		}
	}
	return v.Do(ctx, http.MethodPost, "transit/keys/"+name, map[string]any{})
}

// Do sends one request to Vault's HTTP API as root. path begins after /v1/; body
// is sent as JSON unless it is nil. A status of 300 and above is an error.
func (v *Vault) Do(ctx context.Context, method, path string, body any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("servers: ask Vault: %w", err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.Addr+"/v1/"+path, sent)
	if err != nil {
		return fmt.Errorf("servers: ask Vault: %w", err)
	}
	req.Header.Set("X-Vault-Token", VaultToken)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no goroutine outlives a request
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("servers: ask Vault: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("servers: ask Vault: %s %s: status %d", method, path, resp.StatusCode)
	}
	return nil
}

// StartVault starts a Vault server for one test, which fails when that cannot be
// done. The server ends with the test.
func StartVault(tb testing.TB) *Vault {
	tb.Helper()
	v, err := RunVault(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	endWith(tb, v.process)
	return v
}
