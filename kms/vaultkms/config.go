package vaultkms

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// defaultTimeout bounds one request without a deadline of its caller. Vault answers in
	// milliseconds; one that is stuck should not hold a worker for the 60 s that Vault's
	// own client waits.
	defaultTimeout = 10 * time.Second

	// maxIdleConns is how many connections to Vault stay open between bursts, as
	// many as calls run at once by default. Vault's client keeps GOMAXPROCS+1,
	// which under load means a TLS handshake for most calls.
	maxIdleConns = 32
)

// Config says which key to open and how to reach Vault. Mount and Name are
// required; what else is left out comes from the environment that Vault's own
// tools use.
type Config struct {
	// Mount is the path of the transit engine, such as "transit" or "team-a/transit".
	Mount string
	// Name of the key in it.
	Name string
	// Namespace is the Vault namespace (Vault Enterprise, OpenBao) that holds the
	// mount, such as "team-a" or "org/team-a"; default VAULT_NAMESPACE. "root" is
	// the root namespace.
	Namespace string

	// Address of the server, such as "https://vault.example.com:8200"; default
	// VAULT_AGENT_ADDR, then VAULT_ADDR, then https://127.0.0.1:8200. It is not
	// part of what is recorded.
	Address string
	// Token is short for Auth.Token.
	Token Token
	// Auth says how to get a token.
	Auth Auth

	// Timeout bounds each request, on top of the caller's deadline; default
	// VAULT_CLIENT_TIMEOUT, then 10 s.
	Timeout time.Duration
	// InsecurePlainHTTP permits http:// to another machine, where the token and
	// every data key can be read on the way. Only where something else encrypts
	// the way, such as a service mesh.
	InsecurePlainHTTP bool
}

// New returns the key that cfg names, with connections and a login of its own.
// It reads the environment once, now: VAULT_ADDR, VAULT_AGENT_ADDR, VAULT_TOKEN,
// VAULT_NAMESPACE, VAULT_CACERT, VAULT_CACERT_BYTES, VAULT_CAPATH,
// VAULT_CLIENT_CERT, VAULT_CLIENT_KEY, VAULT_TLS_SERVER_NAME, VAULT_SKIP_VERIFY,
// VAULT_PROXY_ADDR, VAULT_HTTP_PROXY, VAULT_HEADERS, VAULT_RATE_LIMIT,
// VAULT_SRV_LOOKUP, VAULT_DISABLE_REDIRECTS and VAULT_CLIENT_TIMEOUT mean what they
// mean to Vault's own tools; VAULT_MAX_RETRIES does not apply, because nothing here
// retries; and Auth names those that say how to log in.
//
// New does not reach Vault: the first request logs in. A Config or an environment
// that cannot be used gives an *kms.Error of class Invalid that lists everything
// wrong with it; if all that is missing is a token, it is Denied.
func New(cfg Config) (*Key, error) {
	return newKey(cfg, alone)
}

// alone connects a key that shares with no other.
func alone(s settings, conf *vault.Config) (*client, func(), error) {
	c, err := connect(s, conf)
	if err != nil {
		return nil, nil, err
	}
	return c, c.close, nil
}

// newKey makes a Key on a client that connect returns, together with the function that
// releases it.
func newKey(cfg Config, connect func(settings, *vault.Config) (*client, func(), error)) (*Key, error) {
	conf := vault.DefaultConfig()
	if conf.Error != nil {
		return nil, badEnvironment(conf.Error)
	}
	if cfg.Address != "" {
		conf.Address, conf.AgentAddress = cfg.Address, ""
	}
	cfg.Namespace = cfg.vaultNamespace()
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
		if os.Getenv(vault.EnvVaultClientTimeout) != "" {
			cfg.Timeout = conf.Timeout
		}
	}
	viaAgent := conf.AgentAddress != ""
	cfg.Address = conf.Address
	if viaAgent {
		cfg.Address = conf.AgentAddress
	}
	if cfg.Auth.Token == "" {
		cfg.Auth.Token = cfg.Token
	}
	cfg.Auth = cfg.Auth.fill(cfg.Namespace, viaAgent)
	if err := cfg.check(viaAgent); err != nil {
		return nil, err
	}
	c, release, err := connect(settings{
		address: cfg.Address, viaAgent: viaAgent, timeout: cfg.Timeout, insecure: cfg.InsecurePlainHTTP, auth: cfg.Auth,
	}, conf)
	if err != nil {
		return nil, err
	}
	return &Key{
		id:        keyID(cfg.Mount, cfg.Name, cfg.Namespace),
		mount:     cfg.Mount,
		name:      cfg.Name,
		namespace: cfg.Namespace,
		gate:      make(chan struct{}, 1),
		client:    c,
		release:   release,
	}, nil
}

// vaultNamespace returns the Vault namespace of the key, empty for root.
func (cfg Config) vaultNamespace() string {
	return namespacePath(cmp.Or(cfg.Namespace, os.Getenv(vault.EnvVaultNamespace)))
}

// check lists all that is wrong with cfg after its defaults are filled in.
func (cfg Config) check(viaAgent bool) error {
	var problems driver.Problems
	bad := problems.Bad
	const names = "name the mount and the key with letters, digits, _, - and ."
	if !validPath(cfg.Mount) {
		bad("the mount is missing or has characters that a key ID cannot record", names)
	}
	if !validName(cfg.Name) {
		bad("the key's name is missing or has characters that Vault does not take", names)
	}
	if cfg.Namespace != "" && !validPath(cfg.Namespace) {
		bad("the Vault namespace has characters that a key ID cannot record", names)
	}
	if cfg.Timeout < 0 {
		bad("the timeout is negative", "leave the timeout out, or give a positive one")
	}
	cfg.Auth.check(viaAgent, bad)
	if u, err := driver.ParseAddress("address", cfg.Address, true); err != nil {
		bad(err.Error(), "set VAULT_ADDR to an address such as https://vault.example.com:8200")
	} else if !cfg.InsecurePlainHTTP && driver.Exposed(u) {
		bad("http:// to another machine would show the token and every data key to the network",
			"use https://, or "+paramInsecure+"=true in the key URI where something else encrypts the way")
	}
	id := keyID(cfg.Mount, cfg.Name, cfg.Namespace)
	if problems.Err(driver.OpOpen, "") == nil && kms.CheckID(id) != nil {
		bad(fmt.Sprintf("mount, key and namespace together are longer than the %d bytes of a key ID", kms.MaxKeyIDSize), "use shorter names")
	}
	if kms.CheckID(id) != nil || !validPath(cfg.Mount) || !validName(cfg.Name) || cfg.Namespace != "" && !validPath(cfg.Namespace) {
		id = "" // it cannot be shown
	}
	err := problems.Err(driver.OpOpen, id)
	switch {
	case err == nil:
		return nil
	case problems.Only(noToken):
		err.Class = kms.Denied
	}
	return err
}

// badEnvironment reports settings that Vault's client did not take. Its text may
// quote a value, a proxy's password for one, so ours names the variables only.
func badEnvironment(err error) error {
	var set []string
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); value != "" && strings.HasPrefix(name, "VAULT_") {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	return driver.Refuse(kms.Invalid, "the settings for Vault in the environment cannot be used (set are: "+strings.Join(set, ", ")+")",
		"check the value of each; files that they name must be readable, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY come together").Error(driver.OpOpen, "", err)
}
