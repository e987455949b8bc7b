package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"go.temporal.io/server/chasm/lib/activity"
	"go.temporal.io/server/chasm/lib/nexusoperation"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
)

const (
	loopback    = "127.0.0.1"
	clusterName = "active"
	// clusterID is any fixed UUID: Nexus checks that a callback's cluster is
	// this one.
	clusterID = "8a0c7a2e-5f0f-4c9e-9d0b-3b6f3a2f7c11"
	storeName = "sqlite"
)

// ports are the listeners of one server, all on loopback.
type ports struct {
	frontend, http, history, matching, worker, ui int
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// reservePorts replaces every port given as 0 by one that is free. All are
// held open until the last is known, so that no two are the same.
func reservePorts(ctx context.Context, o options) (ports, error) {
	p := ports{frontend: o.port, http: o.httpPort}
	free := []*int{&p.frontend, &p.http, &p.history, &p.matching, &p.worker}
	if o.uiPort != noUI {
		p.ui = o.uiPort
		free = append(free, &p.ui)
	}
	var lc net.ListenConfig
	for _, port := range free {
		l, err := lc.Listen(ctx, "tcp", address(*port))
		if err != nil {
			return ports{}, fmt.Errorf("listen: %w", err)
		}
		defer func() { _ = l.Close() }()
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// newServer makes the four Temporal services and the namespaces.
func newServer(o options, p ports) (temporal.Server, error) {
	db, err := openDatabase(o)
	if err != nil {
		return nil, err
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	services := map[string]config.Service{}
	for name, port := range map[primitives.ServiceName]int{
		primitives.FrontendService: p.frontend,
		primitives.HistoryService:  p.history,
		primitives.MatchingService: p.matching,
		primitives.WorkerService:   p.worker,
	} {
		rpc := config.RPC{GRPCPort: port, BindOnIP: loopback}
		if name == primitives.FrontendService {
			rpc.HTTPPort = p.http
		}
		services[string(name)] = config.Service{RPC: rpc}
		hosts[name] = static.SingleLocalHost(address(port))
	}
	conf := &config.Config{
		Services:            services,
		PublicClient:        config.PublicClient{HostPort: address(p.frontend)},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Persistence: config.Persistence{
			DefaultStore: storeName, VisibilityStore: storeName, NumHistoryShards: 1,
			DataStores: map[string]config.DataStore{storeName: {SQL: db}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: 1, ClusterID: clusterID,
				RPCAddress: address(p.frontend), HTTPAddress: address(p.http),
			}},
		},
	}
	conf.Global.Membership = config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: loopback}
	conf.Archival.History.State, conf.Archival.Visibility.State = "disabled", "disabled"
	conf.NamespaceDefaults.Archival.History.State = "disabled"
	conf.NamespaceDefaults.Archival.Visibility.State = "disabled"

	s, err := temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(log.NewZapLogger(log.BuildZapLogger(log.Config{Level: o.logLevel}))),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithDynamicConfigClient(settings()),
	)
	if err != nil {
		return nil, fmt.Errorf("make the Temporal server: %w", err)
	}
	return s, nil
}

// settings are the dynamic configuration values that differ from the server's
// defaults. Schedules, updates and standalone activities are on by default.
func settings() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		// Tests list and count without being slowed down.
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 1000,
		// No traffic leaves this machine.
		dynamicconfig.EnableServerVersionCheck.Key(): false,
		// Children and signals across namespaces, for the accept rules.
		dynamicconfig.EnableCrossNamespaceCommands.Key(): true,
		// A Nexus endpoint can be used as soon as it was made.
		dynamicconfig.ForceNexusEndpointRefreshOnRead.Key(): true,
		nexusoperation.Enabled.Key():                        true,
		activity.Enabled.Key():                              true,
		activity.EnableCallbacks.Key():                      true,
	}
}

// openDatabase describes the database, makes its tables where it is new, and
// makes the namespaces.
func openDatabase(o options) (*config.SQL, error) {
	db := &config.SQL{PluginName: sqliteplugin.PluginName}
	if o.dbFile == "" {
		db.DatabaseName = "waxseal"
		db.ConnectAttributes = map[string]string{"mode": "memory", "cache": "shared"}
	} else {
		db.DatabaseName = o.dbFile
		db.ConnectAttributes = map[string]string{
			"mode": "rwc", "setup": "true",
			// Whoever looks for plaintext in the file must find all there is:
			// no write-ahead log beside it. A crash may lose data here.
			"journal_mode": "memory", "synchronous": "off",
		}
	}
	namespaces := make([]*sqlite.NamespaceConfig, len(o.namespaces))
	for i, name := range o.namespaces {
		var err error
		if namespaces[i], err = sqlite.NewNamespaceConfig(clusterName, name, false, o.searchAttributes); err != nil {
			return nil, fmt.Errorf("describe namespace %q: %w", name, err)
		}
	}
	if err := sqlite.CreateNamespaces(db, namespaces...); err != nil {
		return nil, fmt.Errorf("prepare the database: %w", err)
	}
	return db, nil
}
