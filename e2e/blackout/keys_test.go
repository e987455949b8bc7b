package blackout

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/e2e/internal/faultproxy"
	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// TestPlainCodec seals and opens with a real Vault, and fails without.
func TestPlainCodec(t *testing.T) {
	vault := servers.StartVault(t)
	if err := vault.NewKey(t.Context(), vaultKey); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.Open(t.Context(), vault.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	key, err := vaultAt(proxy.URL).key()
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	o := newObserver()
	dc := newPlainConverter(observedKey{key, o})
	sealed, err := dc.ToPayloads("a secret", 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sealed.GetPayloads() {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != plainEncoding || strings.Contains(string(p.GetData()), "secret") {
			t.Errorf("not sealed: %v", p)
		}
	}
	var text string
	var number int
	if err := dc.FromPayloads(sealed, &text, &number); err != nil || text != "a secret" || number != 7 {
		t.Errorf("opened %q and %d, %v", text, number, err)
	}
	open := &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte("json/plain")}, Data: []byte(`"x"`)}
	if err := dc.FromPayload(open, &text); err != nil || text != "x" {
		t.Errorf("plaintext gives %q, %v", text, err)
	}
	changed := sealed.GetPayloads()[0]
	changed.Data[len(changed.Data)-1]++
	if err := dc.FromPayload(changed, &text); err == nil {
		t.Error("opens what was changed")
	}
	if err := proxy.Set(t.Context(), faultproxy.Cut); err != nil {
		t.Fatal(err)
	}
	if _, err := dc.ToPayload("x"); err == nil {
		t.Error("seals without a KMS")
	}
	if err := dc.FromPayload(sealed.GetPayloads()[1], &number); err == nil {
		t.Error("opens without a KMS")
	}
	if c := o.Counts(); c.KMSCalls != 7 || c.KMSErrors != 2 {
		t.Errorf("counted %+v", c)
	}
}

// TestSignalArrivesOnce: a customer sends a note again when a call has a deadline that the
// server does not keep.
func TestSignalArrivesOnce(t *testing.T) {
	temporal, vault := servers.StartTemporal(t, servers.TemporalOptions{}), servers.StartVault(t)
	if err := vault.NewKey(t.Context(), vaultKey); err != nil {
		t.Fatal(err)
	}
	c, err := connect(t.Context(), target{HostPort: temporal.HostPort, Namespace: client.DefaultNamespace, VaultAddr: vault.Addr}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.signal(t.Context(), client.DefaultNamespace, "order", 1); !absent(err) {
		t.Errorf("a signal to no workflow: %v", err)
	}
	if _, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "order", TaskQueue: "none"}, orderType); err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{1, 1, 2} {
		if err := c.signal(t.Context(), client.DefaultNamespace, "order", number); err != nil {
			t.Fatal(err)
		}
	}
	events, err := history(t.Context(), c.WorkflowService(), client.DefaultNamespace, "order")
	if err != nil {
		t.Fatal(err)
	}
	var notes []int
	for _, e := range events {
		if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
			var number int
			if err := c.converter.FromPayloads(a.GetInput(), &number); err != nil {
				t.Error(err)
			}
			notes = append(notes, number)
		}
	}
	if !slices.Equal(notes, []int{1, 2}) {
		t.Errorf("the workflow has the notes %v", notes)
	}
}

func TestConnectErrors(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	for _, tc := range []struct {
		name string
		to   target
		want string
	}{
		{"no Temporal server", target{HostPort: "127.0.0.1:1", Namespace: "n", VaultAddr: "http://127.0.0.1:1"}, "dial the Temporal server"},
		{"no Temporal server, plain", target{HostPort: "127.0.0.1:1", Namespace: "n", VaultAddr: "http://127.0.0.1:1", Plain: true}, "dial the Temporal server"},
		{"bad address", target{VaultAddr: ":"}, "make a codec"},
		{"bad address, plain", target{VaultAddr: ":", Plain: true}, "open the key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := connect(t.Context(), tc.to, nil, quiet); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
