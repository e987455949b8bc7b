package kms_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// use is what a key is used for.
type use string

const (
	toSeal use = "seal"
	toOpen use = "open"
)

// harm is a way in which a KMS fails, and what undoes it.
type harm struct {
	how  string // where it comes from, in a word or two
	do   func(t testing.TB)
	undo func(t testing.TB)
}

// realm is a KMS of its own with one key in it, which can be made to fail in every
// way: at the KMS itself or on the wire where that is possible, else between the
// backend and the decorator of package resilience.
type realm struct {
	key   kms.Key // as a program uses it
	gate  *gatedKey
	harms map[use]map[kms.Class]harm
	// revocations take the key away as an administrator would.
	revocations []revocation
}

// revocation is one way to take a key away.
type revocation struct {
	name string
	do   func(t testing.TB)
	// seals and opens are the classes that sealing and opening then fail with; the
	// way does not end sealing if canSeal.
	seals, opens kms.Class
	canSeal      bool
}

// harm makes the KMS fail with class for operation u, and returns what undoes it and where
// the failure comes from.
func (r *realm) harm(t testing.TB, u use, class kms.Class) (undo func(), how string) {
	t.Helper()
	h, ok := r.harms[u][class]
	switch {
	case class == kms.Canceled:
		r.gate.stall()
		return r.gate.open, "caller"
	case !ok:
		r.gate.fail(class)
		return r.gate.open, "key"
	}
	h.do(t)
	return func() { h.undo(t) }, h.how
}

// newRealm puts a gate and the decorator in front of a backend's key.
func newRealm(t testing.TB, key kms.Key, harms map[use]map[kms.Class]harm, revocations ...revocation) *realm {
	t.Helper()
	r := &realm{gate: &gatedKey{Key: key}, harms: harms, revocations: revocations}
	var err error
	r.key, err = resilience.New(r.gate, resilience.Config{Timeout: patience, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := key.(kms.Closer); ok {
		t.Cleanup(func() { _ = c.Close() })
	}
	return r
}

// gatedKey stands before a backend's key, counts its calls, and fails or stalls them on
// command.
type gatedKey struct {
	kms.Key
	wraps, unwraps atomic.Int64

	mu     sync.Mutex
	failed error
	closed chan struct{} // until it is opened
}

func (k *gatedKey) fail(class kms.Class) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = kmstest.Err(class)
}

// stall makes calls wait until the gate is opened, and fail then.
func (k *gatedKey) stall() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed, k.closed = kmstest.Err(kms.Unavailable), make(chan struct{})
}

func (k *gatedKey) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed != nil {
		close(k.closed)
	}
	k.failed, k.closed = nil, nil
}

func (k *gatedKey) pass(ctx context.Context) error {
	k.mu.Lock()
	failed, closed := k.failed, k.closed
	k.mu.Unlock()
	if closed != nil {
		select {
		case <-closed:
		case <-ctx.Done():
		}
	}
	return failed
}

func (k *gatedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.wraps.Add(1)
	if err := k.pass(ctx); err != nil {
		return nil, err
	}
	return k.Key.Wrap(ctx, dataKeys, ec)
}

func (k *gatedKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	k.unwraps.Add(1)
	if err := k.pass(ctx); err != nil {
		return nil, err
	}
	return k.Key.Unwrap(ctx, wrapped, ec)
}

// realms make a realm each, by backend. What they share is made once for a test.
func realms(t testing.TB) map[string]func(testing.TB) *realm {
	t.Helper()
	return map[string]func(testing.TB) *realm{
		"aws": awsRealm, "gcp": gcpRealm, "local": localRealm, "vault": vaultRealms(t),
	}
}

func awsRealm(t testing.TB) *realm {
	t.Helper()
	server, made, key := startAWS(t)
	answering := func(f awsserver.Fault) harm {
		return harm{
			"answer",
			func(testing.TB) { server.SetFault(awsserver.AllOperations, f) },
			func(testing.TB) { server.SetFault(awsserver.AllOperations, awsserver.Fault{}) },
		}
	}
	denied := func(action string) harm {
		return harm{"IAM", func(testing.TB) { server.Deny(action, made) }, func(testing.TB) { server.Undeny(action, made) }}
	}
	state := func(state string) func(testing.TB) { return func(testing.TB) { made.SetState(state) } }
	disabled := harm{"key state", state(awsserver.Disabled), state(awsserver.Enabled)}
	return newRealm(t, key, map[use]map[kms.Class]harm{
		toSeal: {
			kms.Unavailable: answering(awsserver.Outage()), kms.Throttled: answering(awsserver.Throttle()),
			kms.Denied: denied("kms:Encrypt"), kms.Disabled: disabled,
			kms.NotFound: answering(awsserver.Fault{Code: "NotFoundException"}), kms.Internal: answering(awsserver.Fault{Code: "ValidationException"}),
			kms.Invalid: answering(awsserver.Fault{Code: "InvalidKeyUsageException"}),
		},
		toOpen: {
			kms.Unavailable: answering(awsserver.Fault{Reset: true}), kms.Throttled: answering(awsserver.Throttle()),
			kms.Denied: denied("kms:Decrypt"), kms.Disabled: disabled,
			kms.NotFound: answering(awsserver.Fault{Code: "NotFoundException"}), kms.Internal: answering(awsserver.Fault{Code: "ValidationException"}),
			kms.Invalid: answering(awsserver.Fault{Code: "InvalidKeyUsageException"}),
			kms.Corrupt: answering(awsserver.Fault{Code: "InvalidCiphertextException"}),
		},
	},
		revocation{name: "key disabled", do: disabled.do, seals: kms.Disabled, opens: kms.Disabled},
		revocation{name: "denied", do: func(t testing.TB) {
			t.Helper()
			denied("kms:Encrypt").do(t)
			denied("kms:Decrypt").do(t)
		}, seals: kms.Denied, opens: kms.Denied},
		revocation{name: "key pending deletion", do: state(awsserver.PendingDeletion), seals: kms.Disabled, opens: kms.Disabled},
		revocation{name: "key deleted", do: func(testing.TB) { made.Delete() }, seals: kms.NotFound, opens: kms.NotFound},
	)
}

func gcpRealm(t testing.TB) *realm {
	t.Helper()
	const (
		encrypt = "cloudkms.cryptoKeyVersions.useToEncrypt"
		decrypt = "cloudkms.cryptoKeyVersions.useToDecrypt"
	)
	server, key := startGCP(t)
	answering := func(code codes.Code) harm {
		return harm{
			"answer",
			func(testing.TB) { server.Inject(gcpserver.Fault{Code: code}) },
			func(testing.TB) { server.ClearFaults() },
		}
	}
	denied := func(permission string) harm {
		return harm{"IAM", func(testing.TB) { server.Deny(permission, gcpName) }, func(testing.TB) { server.Allow(permission, gcpName) }}
	}
	state := func(state kmspb.CryptoKeyVersion_CryptoKeyVersionState) func(testing.TB) {
		return func(t testing.TB) {
			t.Helper()
			if err := server.SetState(gcpName, 0, state); err != nil {
				t.Fatal(err)
			}
		}
	}
	disabled := harm{"version state", state(kmspb.CryptoKeyVersion_DISABLED), state(kmspb.CryptoKeyVersion_ENABLED)}
	return newRealm(t, key, map[use]map[kms.Class]harm{
		toSeal: {
			kms.Unavailable: answering(codes.Unavailable), kms.Throttled: answering(codes.ResourceExhausted),
			kms.Denied: denied(encrypt), kms.Disabled: disabled,
			kms.NotFound: answering(codes.NotFound), kms.Internal: answering(codes.InvalidArgument),
		},
		toOpen: {
			kms.Unavailable: answering(codes.Unavailable), kms.Throttled: answering(codes.ResourceExhausted),
			kms.Denied: denied(decrypt), kms.Disabled: disabled,
			kms.NotFound: answering(codes.NotFound), kms.Internal: answering(codes.AlreadyExists), kms.Corrupt: answering(codes.InvalidArgument),
		},
	},
		revocation{name: "versions disabled", do: disabled.do, seals: kms.Disabled, opens: kms.Disabled},
		revocation{name: "denied", do: func(t testing.TB) {
			t.Helper()
			denied(encrypt).do(t)
			denied(decrypt).do(t)
		}, seals: kms.Denied, opens: kms.Denied},
		revocation{name: "versions destroyed", do: state(kmspb.CryptoKeyVersion_DESTROYED), seals: kms.NotFound, opens: kms.NotFound},
	)
}

// vaultRealms starts a real Vault, and returns what gives each realm a mount, a
// policy and a proxy of its own.
func vaultRealms(t testing.TB) func(testing.TB) *realm {
	t.Helper()
	server := vaulttest.Start(t)
	var made atomic.Int64
	return func(t testing.TB) *realm {
		t.Helper()
		mount := fmt.Sprintf("transit-%d", made.Add(1))
		server.EnableTransit(t, mount)
		server.CreateKey(t, mount, "k", nil)
		may := `path "` + mount + `/*" { capabilities = ["update", "read"] }`
		server.WritePolicy(t, mount, may)
		proxy := newBrokenProxy(t, server)
		key, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k", Address: proxy.URL, Token: vaultkms.Token(server.Token(t, mount))})
		if err != nil {
			t.Fatal(err)
		}
		answering := func(status int, message string) harm {
			return harm{
				"answer",
				func(testing.TB) { proxy.answer(status, message) },
				func(testing.TB) { proxy.answer(0, "") },
			}
		}
		denied := harm{
			"policy",
			func(t testing.TB) {
				t.Helper()
				server.WritePolicy(t, mount, `path "cubbyhole/none" { capabilities = ["read"] }`)
			},
			func(t testing.TB) { t.Helper(); server.WritePolicy(t, mount, may) },
		}
		tooOld := harm{
			"min_decryption_version",
			func(t testing.TB) {
				t.Helper()
				server.RotateKey(t, mount, "k")
				server.ConfigureKey(t, mount, "k", map[string]any{"min_decryption_version": 2})
			},
			func(t testing.TB) {
				t.Helper()
				server.ConfigureKey(t, mount, "k", map[string]any{"min_decryption_version": 1})
			},
		}
		both := map[kms.Class]harm{
			kms.Unavailable: answering(-1, ""), kms.Throttled: answering(http.StatusTooManyRequests, "rate limit quota exceeded"),
			kms.Denied: denied, kms.NotFound: answering(http.StatusNotFound, "no handler for route"),
			kms.Internal: answering(http.StatusBadRequest, "something else"),
		}
		opening := map[kms.Class]harm{
			kms.Disabled: tooOld, kms.Corrupt: answering(http.StatusBadRequest, "cipher: message authentication failed"),
		}
		maps.Copy(opening, both)
		return newRealm(t, key, map[use]map[kms.Class]harm{toSeal: both, toOpen: opening},
			revocation{name: "policy emptied", do: denied.do, seals: kms.Denied, opens: kms.Denied},
			revocation{name: "key deleted", do: func(t testing.TB) { t.Helper(); server.DeleteKey(t, mount, "k") }, seals: kms.NotFound, opens: kms.NotFound},
			revocation{name: "version too old", do: tooOld.do, opens: kms.Disabled, canSeal: true},
		)
	}
}

// brokenProxy is in front of a Vault, and answers in its place on command.
type brokenProxy struct {
	*httptest.Server
	instead atomic.Pointer[struct {
		status  int
		message string
	}]
}

// answer makes the proxy answer everything with an error as Vault writes it; status -1
// breaks connections, 0 lets requests pass again.
func (p *brokenProxy) answer(status int, message string) {
	if status == 0 {
		p.instead.Store(nil)
		return
	}
	p.instead.Store(&struct {
		status  int
		message string
	}{status, message})
}

func newBrokenProxy(t testing.TB, server *vaulttest.Server) *brokenProxy {
	t.Helper()
	p := new(brokenProxy)
	p.Server = server.Proxy(t, func(w http.ResponseWriter, _ *http.Request) bool {
		instead := p.instead.Load()
		if instead == nil {
			return false
		}
		if instead.status < 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(instead.status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{instead.message}}) // a client that is gone needs no answer
		return true
	})
	return p
}

func localRealm(t testing.TB) *realm {
	t.Helper()
	ring, key := makeKeyring(t)
	path := ring.Path()
	must := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	away := path + ".away"
	back := func(t testing.TB) { t.Helper(); must(t, os.Rename(away, path)) }
	damaged := harm{"file damaged", func(t testing.TB) {
		t.Helper()
		must(t, os.Rename(path, away))
		must(t, os.WriteFile(path, []byte("{"), 0o600))
	}, back}
	gone := harm{"file gone", func(t testing.TB) { t.Helper(); must(t, os.Rename(path, away)) }, back}
	mode := func(mode os.FileMode) func(testing.TB) {
		return func(t testing.TB) { t.Helper(); must(t, os.Chmod(path, mode)) }
	}
	exposed := harm{"file mode", mode(0o644), mode(0o600)}
	disabled := harm{
		"version state",
		func(t testing.TB) { t.Helper(); must(t, ring.Disable("k", "")) },
		func(t testing.TB) { t.Helper(); must(t, ring.Enable("k", "")) },
	}
	replaced := harm{"another file", func(t testing.TB) {
		t.Helper()
		other, err := localkms.OpenKeyring(filepath.Join(t.TempDir(), "other"))
		must(t, err)
		_, err = other.Create("k")
		must(t, err)
		must(t, os.Rename(path, away))
		must(t, os.Rename(other.Path(), path))
	}, back}
	altered := harm{"file altered", func(t testing.TB) { t.Helper(); must(t, alterMaterial(path, away)) }, back}
	return newRealm(t, key, map[use]map[kms.Class]harm{
		toSeal: {kms.Unavailable: damaged, kms.Invalid: gone, kms.Denied: exposed, kms.Disabled: disabled, kms.NotFound: replaced},
		toOpen: {kms.Unavailable: damaged, kms.Invalid: gone, kms.Denied: exposed, kms.Disabled: disabled, kms.NotFound: replaced, kms.Corrupt: altered},
	},
		revocation{name: "version disabled", do: disabled.do, seals: kms.Disabled, opens: kms.Disabled},
		revocation{name: "file open to others", do: exposed.do, seals: kms.Denied, opens: kms.Denied},
		revocation{name: "another keyring", do: replaced.do, seals: kms.NotFound, opens: kms.NotFound},
	)
}

// alterMaterial moves a keyring to away and leaves one in its place that differs
// in the key material alone.
func alterMaterial(path, away string) error {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err
	}
	other := make([]byte, kms.DataKeySize)
	rand.Read(other) // never fails
	text = regexp.MustCompile(`"material": "[^"]*"`).ReplaceAll(text, fmt.Appendf(nil, `"material": %q`, base64.StdEncoding.EncodeToString(other)))
	if err := os.Rename(path, away); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// fakeRealm is an in-memory KMS, which works in a synctest bubble too.
func fakeRealm(t testing.TB) *realm {
	t.Helper()
	fake := kmstest.NewFake("a")
	harms := make(map[kms.Class]harm)
	for _, class := range kms.Classes() {
		harms[class] = harm{"script", func(testing.TB) { fake.Always(kmstest.Fail(class)) }, func(testing.TB) { fake.Heal() }}
	}
	var revocations []revocation
	for _, class := range []kms.Class{kms.Denied, kms.Disabled, kms.NotFound} {
		revocations = append(revocations, revocation{name: class.String(), do: harms[class].do, seals: class, opens: class})
	}
	return newRealm(t, fake, map[use]map[kms.Class]harm{toSeal: harms, toOpen: harms}, revocations...)
}
