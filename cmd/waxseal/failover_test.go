package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/internal/payloadjson"
	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/vaultkms"
	"github.com/waxseal/waxseal/policy"
)

// twoKMSs is a Vault and an AWS KMS, each with a key, and how each can be lost.
type twoKMSs struct {
	vault *vaulttest.Server
	front *httptest.Server // Vault's, where it can be made to hang
	aws   *awsserver.Server
	kill  func() // the AWS KMS
	hang  atomic.Bool
	freed chan struct{}
	yaml  string
}

func startTwoKMSs(t *testing.T) *twoKMSs {
	k := &twoKMSs{vault: vaulttest.Start(t), freed: make(chan struct{})}
	k.vault.EnableTransit(t, "transit")
	k.vault.CreateKey(t, "transit", "payments", nil)
	k.front = k.vault.Proxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if !k.hang.Load() {
			return false
		}
		select {
		case <-k.freed:
		case <-r.Context().Done():
		}
		return true
	})
	t.Cleanup(func() { close(k.freed) })
	var err error
	k.aws, err = awsserver.Start(awsserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k.kill = sync.OnceFunc(func() { _ = k.aws.Close() })
	t.Cleanup(k.kill)
	key, err := k.aws.CreateKey(awsserver.KeySpec{})
	if err != nil {
		t.Fatal(err)
	}
	k.yaml = fmt.Sprintf(`
keys:
  first: {uri: "hashivault://transit/payments?address=%s"}
  second: {uri: "awskms:///%s?endpoint=%s"}
seal:
  - match: {namespace: "*"}
    keys: [first, second]
`, k.front.URL, key.ARN(), k.aws.URL())
	return k
}

// seal seals n payloads, each under a data key of its own, under both KEKs.
func (k *twoKMSs) seal(t *testing.T, n int) (plain, sealed []*commonpb.Payload) {
	p, err := policy.Parse("test.yaml", []byte(k.yaml))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_TOKEN", k.vault.RootToken)
	t.Setenv("AWS_ACCESS_KEY_ID", awsserver.DefaultAccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsserver.DefaultSecretAccessKey)
	c, err := codec.New(t.Context(), codec.Config{
		Policy: p, Registry: kms.NewRegistry(awskms.Backend, vaultkms.Backend),
		CallTimeout: time.Minute, // what is sealed here is only there to be opened
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range n {
		plain = append(plain, &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: fmt.Appendf(nil, "%d", i)})
	}
	if sealed, err = c.Encode(t.Context(), codec.EncodeOptions{Namespace: "default"}, plain); err != nil {
		t.Fatal(err)
	}
	return plain, sealed
}

// One of two KMSs is lost while a codec server with nothing in its cache opens
// what both can open: every payload of every page is opened all the same.
func TestLosingOneOfTwoKMSsLosesNoDecode(t *testing.T) {
	for _, tc := range []struct {
		name string
		lose func(t *testing.T, k *twoKMSs)
	}{
		{"the first is killed", func(_ *testing.T, k *twoKMSs) {
			k.vault.Stop()
			_ = k.front.Listener.Close()
			k.front.CloseClientConnections()
		}},
		{"the first hangs", func(_ *testing.T, k *twoKMSs) { k.hang.Store(true) }},
		{"the first is sealed", func(t *testing.T, k *twoKMSs) { k.vault.Seal(t) }},
		{"the second is killed", func(_ *testing.T, k *twoKMSs) { k.kill() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const pages, pageSize, readers = 60, 10, 6
			k := startTwoKMSs(t)
			plain, sealed := k.seal(t, pages*pageSize)
			env := append(baseEnv(t.TempDir(), os.Getenv("PATH")), "VAULT_TOKEN="+k.vault.RootToken,
				"AWS_ACCESS_KEY_ID="+awsserver.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY="+awsserver.DefaultSecretAccessKey)
			config := filepath.Join(t.TempDir(), "waxseal.yaml")
			if err := os.WriteFile(config, []byte(k.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			server, err := startServer(t.Context(), t.TempDir(), env, []string{"--config", config, "--strict", "--listen", "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.stop(os.Interrupt) })

			var next atomic.Int64
			var lose sync.Once
			var readersDone sync.WaitGroup
			var mu sync.Mutex
			var took []time.Duration
			for range readers {
				readersDone.Go(func() {
					for {
						page := int(next.Add(1)) - 1
						if page >= pages {
							return
						}
						if page == pages/4 {
							lose.Do(func() { tc.lose(t, k) })
						}
						began := time.Now()
						from, to := page*pageSize, (page+1)*pageSize
						if err := decodePage(t, server.url, sealed[from:to], plain[from:to]); err != nil {
							t.Errorf("page %d: %v", page, err)
						}
						mu.Lock()
						took = append(took, time.Since(began))
						mu.Unlock()
					}
				})
			}
			readersDone.Wait()
			slices.Sort(took)
			t.Logf("%d pages of %d payloads: median %s, slowest %s", len(took), pageSize, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
		})
	}
}

// decodePage decodes one page with a codec server and compares it with the original.
func decodePage(t *testing.T, server string, sealed, want []*commonpb.Payload) error {
	body, err := payloadjson.Append(nil, sealed)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/decode", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Namespace", "default")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	expected, err := payloadjson.Append(nil, want)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(bytes.TrimSpace(got), expected) {
		return fmt.Errorf("status %d: %.300s", resp.StatusCode, got)
	}
	return nil
}
