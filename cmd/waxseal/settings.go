package main

import (
	"text/template"

	"github.com/waxseal/waxseal/kms/localkms"
)

// settings is what serve prints without --config: all settings of other programs, ready to be copied. The names of the Web
// UI's dialog are those of ui-server 2.55, the CLI's flag and variable those of temporal 1.5.
var settings = template.Must(template.New("settings").Parse(`Waxseal codec server on {{.URL}}

Temporal Web UI: click the glasses at the top right and enter as the endpoint
  {{.URL}}
or start the development server with it:
  temporal server start-dev --ui-codec-endpoint {{.URL}}

temporal CLI:
  temporal workflow show --codec-endpoint {{.URL}} --workflow-id ID
or once for all commands:
  export TEMPORAL_CODEC_ENDPOINT={{.URL}}

Go workers and clients, one line in client.Options:
  Plugins: []client.Plugin{codec.NewPlugin(c)}
with
  c, err := codec.Open(ctx, "waxseal.yaml", kms.NewRegistry(localkms.Backend))
and in waxseal.yaml, for the same keys as here:

keys:
  default: {uri: "{{.URI}}"}
seal:
  - match: {namespace: "*"}
    keys: [default]

The keyring is {{.Keyring}}
Whoever reads this file can open everything, and without it nobody can: it is
for development. For more, put your keys in a KMS: waxseal serve --config.
`))

func (s *server) printSettings(url string) error {
	keyring, err := s.keys.keyring()
	if err != nil {
		return err
	}
	return settings.Execute(s.app.out, map[string]string{
		"URL": url, "URI": localkms.URI(keyring, defaultKey), "Keyring": keyring,
	})
}
