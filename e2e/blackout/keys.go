package blackout

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/e2e/internal/servers"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
	"github.com/waxseal/waxseal/policy"
)

// vaultKey is the transit key that all payloads are sealed under.
const vaultKey = "orders"

// yaml is the policy: all that a rule may leave out is left out, so every payload
// has a data key of its own and what is wrapped ahead of need runs dry.
const yaml = `
keys:
  orders: {uri: "hashivault://transit/` + vaultKey + `"}
seal:
  - match: {namespace: "*"}
    keys: [orders]
    sealHeaders: true
`

// vaultAt is the Vault backend with an address of ours in place of VAULT_ADDR: some
// in this process meet the outage and some do not.
type vaultAt string

var _ kms.Backend = vaultAt("")

// Scheme implements kms.Backend.
func (vaultAt) Scheme() string { return vaultkms.Scheme }

// Open implements kms.Backend.
func (at vaultAt) Open(context.Context, *url.URL) (kms.Key, error) { return at.key() }

func (at vaultAt) key() (*vaultkms.Key, error) {
	return vaultkms.New(vaultkms.Config{Mount: "transit", Name: vaultKey, Address: string(at), Token: servers.VaultToken})
}

// connection is a client and what it seals with.
type connection struct {
	client.Client
	converter converter.DataConverter
	close     func()
}

// Close closes both.
func (c *connection) Close() {
	c.Client.Close()
	c.close()
}

// signal sends a workflow a note, under a request ID that is the note's own. The SDK makes
// one for each call: a note that is sent again after a deadline would arrive twice.
func (c *connection) signal(ctx context.Context, namespace, id string, number int) error {
	input, err := c.converter.ToPayloads(number)
	if err != nil {
		return err
	}
	_, err = c.WorkflowService().SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id}, SignalName: noteSignal,
		Input: input, RequestId: fmt.Sprintf("%s-%d", id, number),
	})
	return err
}

// target says where a client connects to.
type target struct {
	HostPort  string
	Namespace string
	VaultAddr string
	// Plain has it seal with the plain codec, the control.
	Plain bool
}

// connect dials Temporal, with Waxseal's plugin as its documentation shows it, or
// with the plain codec.
func connect(ctx context.Context, to target, o *observer, logger *slog.Logger) (*connection, error) {
	options := client.Options{HostPort: to.HostPort, Namespace: to.Namespace, Logger: log.NewStructuredLogger(logger)}
	if o != nil {
		options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithStatsHandler(o)}
	} else {
		o = newObserver()
	}
	var sealing func()
	var reads converter.DataConverter
	if to.Plain {
		key, err := vaultAt(to.VaultAddr).key()
		if err != nil {
			return nil, fmt.Errorf("blackout: open the key: %w", err)
		}
		reads = newPlainConverter(observedKey{key, o})
		options.DataConverter = reads
		sealing = func() { _ = key.Close() }
	} else {
		p, err := policy.Parse("blackout.yaml", []byte(yaml))
		if err != nil {
			return nil, fmt.Errorf("blackout: parse the policy: %w", err)
		}
		c, err := codec.New(ctx, codec.Config{Policy: p, Registry: kms.NewRegistry(vaultAt(to.VaultAddr)), Hooks: o.hooks()})
		if err != nil {
			return nil, fmt.Errorf("blackout: make a codec: %w", err)
		}
		options.Plugins = []client.Plugin{codec.NewPlugin(c)}
		reads = codec.NewDataConverter(c, to.Namespace, nil)
		sealing = c.Close
	}
	cl, err := client.DialContext(ctx, options)
	if err != nil {
		sealing()
		return nil, fmt.Errorf("blackout: dial the Temporal server: %w", err)
	}
	return &connection{cl, reads, sealing}, nil
}
