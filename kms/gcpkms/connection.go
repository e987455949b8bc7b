package gcpkms

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"cloud.google.com/go/auth/credentials"
	gcp "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxAnswer bounds an answer in bytes: a data key, wrapped or not, and a
	// resource name, with much room.
	maxAnswer = 256 << 10

	// maxReconnectDelay is how long gRPC waits at most before it tries to connect
	// again. Its own default of two minutes would make every outage that much longer.
	maxReconnectDelay = 3 * time.Second

	// deadAfter is how long sent bytes may stay unacknowledged before a connection
	// counts as dead, on Linux; the kernel alone would take a quarter of an hour.
	deadAfter = 20 * time.Second
)

// connection is a client of one endpoint, with the credentials that it uses.
type connection struct {
	client *gcp.KeyManagementClient
	who    identity
}

// dial makes a client, which connects when it is first used, with up to so many
// connections. Without TLS it is one: emulators have no limits worth spreading over.
func (cfg Config) dial(connections int) (made *connection, err error) {
	dialOptions := []grpc.DialOption{
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnectDelay},
			MinConnectTimeout: cfg.Timeout,
		}),
		// Pings this rare find nothing out by themselves. With them gRPC sets
		// TCP_USER_TIMEOUT, which does.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Minute, Timeout: deadAfter}),
	}
	quiet := slog.New(slog.DiscardHandler)
	var who identity
	var options []option.ClientOption
	if cfg.InsecurePlaintext {
		conn, err := grpc.NewClient(cfg.Endpoint, append(dialOptions, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			return nil, err
		}
		options = []option.ClientOption{option.WithGRPCConn(conn)}
		defer func() {
			if made == nil {
				_ = conn.Close() // nothing was sent
			}
		}()
	} else {
		options = slices.Clone(cfg.ClientOptions)
		if connections > 1 {
			options = append(options, option.WithGRPCConnectionPool(connections))
		}
		if len(cfg.ClientOptions) == 0 {
			// Google's client would find them too, but does not return the identity.
			creds, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: gcp.DefaultAuthScopes(), Logger: quiet})
			if err != nil {
				return nil, err
			}
			who = identityOf(creds.JSON())
		}
		if cfg.Endpoint != "" {
			options = append(options, option.WithEndpoint(cfg.Endpoint))
		}
		for _, o := range dialOptions {
			options = append(options, option.WithGRPCDialOption(o))
		}
	}
	// At its debug level, which an environment variable switches on, Google's
	// library logs requests and answers as they are, data keys included.
	options = append(options, option.WithLogger(quiet))
	client, err := gcp.NewKeyManagementClient(context.Background(), options...)
	if err != nil {
		return nil, err
	}
	client.CallOptions = &gcp.KeyManagementCallOptions{} // its retries, and its timeouts of 60 s
	return &connection{client: client, who: who}, nil
}
