package vaultkms_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// Whether a key is derived is found out: by reading it, or from what Vault says.
func TestDerivedKeys(t *testing.T) {
	s := startVault(t)
	for name, params := range map[string]map[string]any{
		"derived":    {"derived": true},
		"convergent": {"derived": true, "convergent_encryption": true},
		"chacha":     {"derived": true, "type": "chacha20-poly1305"},
	} {
		t.Run(name, func(t *testing.T) {
			s.CreateKey(t, mount, name, params)
			p := newProxy(t, s, nil)
			reader := newKey(t, vaultkms.Config{Name: name, Address: p.URL})
			blind := newKey(t, vaultkms.Config{Name: name, Address: p.URL, Token: tokenFor(t, s, "encrypt", "decrypt")})
			opener := newKey(t, vaultkms.Config{Name: name, Address: p.URL, Token: tokenFor(t, s, "decrypt")})
			plain := dataKeys(300)
			for _, ec := range []kms.Context{nil, {"namespace": "payments"}} {
				for _, key := range []*vaultkms.Key{reader, blind} {
					wrapped := mustWrap(t, key, plain, ec)
					for _, k := range []*vaultkms.Key{reader, blind, opener} {
						mustUnwrap(t, k, wrapped, ec, plain)
						wantError(t, unwrapError(t, k, wrapped[0], kms.Context{"namespace": "salaries"}), kms.Corrupt, "sealed under")
					}
				}
			}
			// Once it is known, it costs no more requests than for another key.
			p.take()
			mustUnwrap(t, opener, mustWrap(t, blind, plain[:1], nil), nil, plain[:1])
			want := map[string]int{"POST /v1/transit/encrypt/" + name: 1, "POST /v1/transit/decrypt/" + name: 1}
			if diff := cmp.Diff(want, p.take()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// A key that is declared to be derived and is not would bind nothing: Vault
// ignores the context.
func TestDeclaredDerived(t *testing.T) {
	s := startVault(t, "plain")
	s.CreateKey(t, mount, "derived", map[string]any{"derived": true})
	t.Setenv("VAULT_ADDR", s.Addr)
	t.Setenv("VAULT_TOKEN", s.RootToken)
	registry := kms.NewRegistry(vaultkms.Backend)
	open := func(uri string) kms.Key {
		key, err := registry.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = key.(kms.Closer).Close() })
		return key
	}
	derived := open("hashivault://transit/derived?derived=true")
	works(t, derived)
	if derived.ID() != "hashivault://transit/derived" {
		t.Errorf("ID %q", derived.ID())
	}
	if _, ok := kms.As[kms.Rewrapper](derived); !ok {
		t.Error("is no Rewrapper")
	}
	if _, ok := kms.As[kms.Rewrapper](open("hashivault://transit/derived")); ok {
		t.Error("is a Rewrapper without a word")
	}
	plain := dataKeys(1)
	for _, key := range []kms.Key{
		open("hashivault://transit/plain?derived=true"),
		mustDerived(t, vaultkms.Config{Mount: mount, Name: "plain", Token: tokenFor(t, s, "encrypt", "decrypt")}),
	} {
		got, err := key.Wrap(t.Context(), plain, nil)
		wantError(t, err, kms.Invalid, "derived=true out of the key URI")
		if got != nil {
			t.Error("wrapped")
		}
		wrapped := mustWrap(t, open("hashivault://transit/plain"), plain, kms.Context{"n": "v"})
		rewrapper, _ := kms.As[kms.Rewrapper](key)
		_, err = rewrapper.Rewrap(t.Context(), key, wrapped, kms.Context{"n": "v"})
		wantError(t, err, kms.Invalid, "derived=true out of the key URI")
	}
	if _, err := vaultkms.NewDerived(vaultkms.Config{}); kms.ClassOf(err) != kms.Invalid || err == nil {
		t.Errorf("%v", err)
	}
}

// derivedKey is what a key has that was made with NewDerived.
type derivedKey interface {
	kms.Key
	kms.Closer
	kms.Rewrapper
	kms.Rotator
	kms.Retirer
	kms.Prober
}

func mustDerived(t testing.TB, cfg vaultkms.Config) derivedKey {
	t.Helper()
	key, err := vaultkms.NewDerived(cfg)
	if err != nil {
		t.Fatal(err)
	}
	derived := key.(derivedKey)
	t.Cleanup(func() { _ = derived.Close() })
	return derived
}

// The data key stays in Vault: one request, and nothing of it in the answer.
func TestRewrapStaysInVault(t *testing.T) {
	s := startVault(t)
	s.CreateKey(t, mount, "k", map[string]any{"derived": true})
	s.WritePolicy(t, "rewrapper", `
		path "transit/rewrap/k" { capabilities = ["update"] }
		path "transit/keys/k" { capabilities = ["read"] }`)
	ec := kms.Context{"namespace": "payments"}
	plain := dataKeys(500)
	worker := newKey(t, vaultkms.Config{Address: s.Addr})
	wrapped := mustWrap(t, worker, plain, ec)
	s.RotateKey(t, mount, "k")
	p := newProxy(t, s, nil)
	p.setAlter(func(_ string, answer map[string]any) {
		for _, item := range results(answer) {
			if text, _ := item["plaintext"].(string); text != "" {
				t.Error("Vault answered with a data key")
			}
		}
	})
	key := mustDerived(t, vaultkms.Config{Mount: mount, Name: "k", Address: p.URL, Token: vaultkms.Token(s.Token(t, "rewrapper"))})
	got, err := key.Rewrap(t.Context(), worker, wrapped, ec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{keyPath: 1, "POST /v1/transit/rewrap/k": 4}, p.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	rewrapped := make([]kms.Wrapped, len(got))
	for i, r := range got {
		if rewrapped[i] = r.Wrapped; r.Err != nil || r.Wrapped.Version != "2" || !bytes.HasPrefix(r.Wrapped.Blob, []byte("vault:v2:")) {
			t.Fatalf("item %d: version %q, %v", i, r.Wrapped.Version, r.Err)
		}
	}
	mustUnwrap(t, worker, rewrapped, ec, plain)
	wantError(t, unwrapError(t, worker, rewrapped[0], nil), kms.Corrupt, "sealed under")

	s.WritePolicy(t, "rewrapper", `path "transit/keys/k" { capabilities = ["read"] }`)
	_, err = key.Rewrap(t.Context(), worker, wrapped[:2], ec)
	wantError(t, err, kms.Denied, "grants update on transit/rewrap/k")
}

func TestRewrapAnswersThatMakeNoSense(t *testing.T) {
	server := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		answer := `{"data":{"batch_results":[{"ciphertext":"not one of Vault's","reference":"0"}]}}`
		if r.Method == http.MethodGet {
			answer = `{"data":{"type":"aes256-gcm96","latest_version":1,"derived":true}}`
		}
		_, _ = w.Write([]byte(answer))
	})
	key := mustDerived(t, vaultkms.Config{Mount: mount, Name: "k", Address: server.URL, Token: "t"})
	got, err := key.Rewrap(t.Context(), key, []kms.Wrapped{{Blob: []byte(someBlob)}}, nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	wantError(t, got[0].Err, kms.Internal, "transit engine")
}

// Why only derived keys rewrap: Vault's rewrap does not take associated data,
// though its answer to a request that has some is no error as such. Should a
// Vault learn it, this fails and there is something to gain.
func TestVaultsRewrapIgnoresAssociatedData(t *testing.T) {
	s := startVault(t, "k")
	ec := kms.Context{"namespace": "payments"}
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	item := func(w kms.Wrapped) map[string]any {
		answer := s.Do(t, http.MethodPost, "transit/rewrap/k", map[string]any{
			"batch_input": []any{map[string]any{"ciphertext": string(w.Blob), "associated_data": ec.AssociatedData()}},
		})
		return results(answer)[0]
	}
	if got := item(mustWrap(t, key, dataKeys(1), ec)[0]); !strings.Contains(got["error"].(string), "message authentication failed") {
		t.Errorf("with associated data: %v", got)
	}
	if got := item(mustWrap(t, key, dataKeys(1), nil)[0]); got["error"] != nil {
		t.Errorf("without: %v", got)
	}
}

// A key that is deleted and made again as another kind is noticed, in time or by
// what Vault says; nothing is bound by what does not bind.
func TestKeyBecomesDerived(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	works(t, key)
	s.DeleteKey(t, mount, "k")
	s.CreateKey(t, mount, "k", map[string]any{"derived": true})
	_, err := key.Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Invalid, "deleted and made again")
	works(t, key) // it was looked at anew
}
