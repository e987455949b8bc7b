package main

import (
	uiserver "github.com/temporalio/ui-server/v2/server"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
)

// newUI makes the Web UI, with its assets from inside the binary.
func newUI(o options, p ports) *uiserver.Server {
	return uiserver.NewServer(server_options.WithConfigProvider(&config.Config{
		TemporalGRPCAddress: address(p.frontend),
		Host:                loopback,
		Port:                p.ui,
		EnableUI:            true,
		DefaultNamespace:    o.namespaces[0],
		Codec:               config.Codec{Endpoint: o.uiCodecEndpoint, PassAccessToken: o.uiCodecPassToken},
		CORS:                config.CORS{CookieInsecure: true}, // plain http on loopback
		HideLogs:            true,
		DisableNewsFetch:    true, // no traffic leaves this machine
	}))
}
