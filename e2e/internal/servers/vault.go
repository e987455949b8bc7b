package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// vaultRootToken is the token of every Vault that this package starts. They
// are in memory, on loopback, and gone after the test.
const vaultRootToken = "root"

// Vault is a Vault server that runs, unsealed, in memory, in its "dev" mode.
type Vault struct {
	Addr  string // URL, as VAULT_ADDR wants it
	Token string // root token
	*process
}

// RunVault starts a Vault server and returns when it answers. ctx bounds the
// start; Stop ends the server and with it all its keys.
func RunVault(ctx context.Context) (*Vault, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	path, err := find(ctx, programVault)
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	//nolint:gosec,noctx // our own program; it outlives ctx, which is for the start alone
	cmd := exec.Command(path, "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id="+vaultRootToken, "-dev-listen-address="+addr)
	cmd.Env = environWithout("VAULT_")
	p, err := startProcess("Vault", cmd, nil)
	if err != nil {
		return nil, err
	}
	v := &Vault{Addr: "http://" + addr, Token: vaultRootToken, process: p}
	if err := v.await(ctx); err != nil {
		return nil, errors.Join(p.failure(err), p.Stop())
	}
	return v, nil
}

// await returns when Vault can be used. Its health answers before the mounts
// are there, so the mounts are asked for.
func (v *Vault) await(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := v.Call(ctx, http.MethodGet, "sys/mounts", nil)
		if err == nil {
			return nil
		}
		select {
		case <-v.exited:
			return v.ended()
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// Call makes one request with the root token and returns the "data" of the
// answer, nil when there is none. path is without "/v1/".
func (v *Vault) Call(ctx context.Context, method, path string, body any) (map[string]any, error) {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return nil, fmt.Errorf("servers: call Vault: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, v.Addr+"/v1/"+path, &sent)
	if err != nil {
		return nil, fmt.Errorf("servers: call Vault: %w", err)
	}
	req.Header.Set("X-Vault-Token", v.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("servers: call Vault: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Data   map[string]any
		Errors []string
	}
	if resp.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return nil, fmt.Errorf("servers: call Vault: %s %s: status %d: %w", method, path, resp.StatusCode, err)
		}
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("servers: call Vault: %s %s: status %d: %s", method, path, resp.StatusCode, strings.Join(answer.Errors, "; "))
	}
	return answer.Data, nil
}

// StartVault starts a Vault server for one test, which fails when that cannot
// be done. The server ends with the test.
func StartVault(tb testing.TB) *Vault {
	tb.Helper()
	v, err := RunVault(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	endWith(tb, v.process)
	return v
}

// freeAddress returns a loopback address that nobody listens on now.
func freeAddress(ctx context.Context) (string, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("servers: find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// environWithout is this process's environment without the variables that
// would point a program somewhere else than the test means.
func environWithout(prefix string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, prefix) {
			env = append(env, kv)
		}
	}
	return env
}
