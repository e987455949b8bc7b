package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/internal/doctor"
	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
)

// examineURI runs doctor on one key and returns its report of that key.
func examineURI(t *testing.T, uri string, args ...string) (told doctorItem, code int) {
	t.Helper()
	config := writeFile(t, "waxseal.yaml", "keys:\n  k: {uri: \""+uri+"\"}\nseal:\n  - match: {namespace: \"*\"}\n    keys: [k]\n")
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, lookup: os.LookupEnv}
	code = a.main(t.Context(), append([]string{"doctor", "--config", config, "--calls", "3", "--json"}, args...))
	var all doctorJSON
	if err := json.Unmarshal(out.Bytes(), &all); err != nil || len(all.Keys) != 1 || all.OK != (code == exitOK) {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out.String(), errs.String())
	}
	for _, secret := range []string{awsserver.DefaultSecretAccessKey, os.Getenv("VAULT_TOKEN")} {
		if secret != "" && (strings.Contains(out.String(), secret) || strings.Contains(errs.String(), secret)) {
			t.Errorf("it tells the credential: %s%s", out.String(), errs.String())
		}
	}
	return all.Keys[0], code
}

// find returns a check of the report.
func (i *doctorItem) find(t *testing.T, name string) doctorCheck {
	t.Helper()
	for _, c := range i.Checks {
		if c.Check == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, i)
	return doctorCheck{}
}

// failing returns the checks that fail, with their class, and the first's hint.
func (i *doctorItem) failing() (failed map[string]string, hint string) {
	failed = map[string]string{}
	for _, c := range i.Checks {
		if c.Status == doctor.Fail.String() {
			failed[c.Check] = c.Class
			if hint == "" {
				hint = c.Hint
			}
		}
	}
	return failed, hint
}

// wantFailing checks that, and why, a key fails: at least one of the checks
// named does, with that class and a hint, and none with another class.
func wantFailing(t *testing.T, told doctorItem, code int, class kms.Class, hint string, among ...string) {
	t.Helper()
	failed, got := told.failing()
	for name, c := range failed {
		if c != class.String() || !slices.Contains(among, name) {
			t.Errorf("%s fails as %s: %+v", name, c, told.find(t, name))
		}
	}
	if code != exitFailure || len(failed) == 0 || !strings.Contains(got, hint) {
		t.Errorf("exit code %d, %v fail, hint %q", code, slices.Sorted(maps.Keys(failed)), got)
	}
}

func wantHealthy(t *testing.T, told doctorItem, code int) {
	t.Helper()
	if code != exitOK || told.Status == doctor.Fail.String() || told.Latency == nil || told.Latency.Calls != 3 || len(told.Latency.Each) != 3 {
		t.Errorf("exit code %d: %+v", code, told)
	}
	for _, name := range []string{doctor.Opens, doctor.Wraps, doctor.Unwraps, doctor.Bound} {
		if c := told.find(t, name); c.Status != "pass" {
			t.Errorf("%+v", c)
		}
	}
}

// wantTold checks the outcome of one check, and what its detail has.
func wantTold(t *testing.T, told doctorItem, name, status, detail string) {
	t.Helper()
	if c := told.find(t, name); c.Status != status || !strings.Contains(c.Detail, detail) {
		t.Errorf("%+v, want %s and %q", c, status, detail)
	}
}

func TestDoctorAWS(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", awsserver.DefaultAccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsserver.DefaultSecretAccessKey)
	server, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awsserver.KeySpec{})
	if err != nil {
		t.Fatal(err)
	}
	uri := "awskms:///" + key.ARN() + "?endpoint=" + server.URL()
	told, code := examineURI(t, uri)
	wantHealthy(t, told, code)
	if told.URI != "awskms:///"+key.ARN() || told.ID != told.URI || told.Latency.Call != "wrap" {
		t.Errorf("got %+v", told)
	}

	wantTold(t, told, doctor.Identity, "pass", "arn:aws:iam::"+awsserver.DefaultAccount+":")
	wantTold(t, told, doctor.Description, "pass", "symmetric key")
	wantTold(t, told, doctor.Clock, "pass", "in step")

	server.SetClock(2 * time.Minute)
	told, code = examineURI(t, uri)
	wantHealthy(t, told, code)
	wantTold(t, told, doctor.Clock, "warn", "ahead of ours")
	server.SetClock(-time.Hour)
	told, code = examineURI(t, uri)
	wantHealthy(t, told, code) // the SDK signs by AWS's clock once it was refused for the time
	wantTold(t, told, doctor.Clock, "warn", "behind ours")
	server.SetClock(0)

	key.SetState(awsserver.Disabled)
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Disabled, "enable-key", doctor.Description, doctor.Wraps)
	key.SetState(awsserver.Enabled)

	server.Deny("kms:Encrypt", key)
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Denied, "kms:Encrypt", doctor.Wraps)
	told, code = examineURI(t, uri, "--role", "codec-server")
	if c := told.find(t, doctor.Unwraps); code != exitOK || told.Status != "warn" || c.Status != "warn" || !strings.Contains(c.Hint, "give a payload") {
		t.Errorf("as a codec server: %d, %+v", code, told)
	}
	server.Undeny("kms:Encrypt", key)
	server.Deny("kms:Decrypt", key)
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Denied, "kms:Decrypt", doctor.Unwraps)
	server.Undeny("kms:Decrypt", key)

	told, code = examineURI(t, "awskms:///alias/none?region=eu-west-1&endpoint="+server.URL())
	wantFailing(t, told, code, kms.NotFound, "check account, Region and spelling", doctor.Opens)
	told, code = examineURI(t, "awskms:///alias/none?region=eu-west-1&endpoint="+server.URL()+"&fisp=true")
	wantFailing(t, told, code, kms.Invalid, "write awskms:///", doctor.Opens)

	server.SetFault("Decrypt", awsserver.Fault{WrongPlaintext: true})
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Internal, "do not seal anything under this key", doctor.Unwraps)
	server.SetFault("Decrypt", awsserver.Fault{})

	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Denied, "AWS_SECRET_ACCESS_KEY", doctor.Opens, doctor.Description, doctor.Wraps)
	told, code = examineURI(t, "awskms:///"+key.ARN()+"?endpoint=http://127.0.0.1:1")
	wantFailing(t, told, code, kms.Unavailable, "check that the Region", doctor.Opens, doctor.Reachable, doctor.Wraps)
}

// A worker that may use the key for one namespace passes for that one.
func TestDoctorOfOneNamespace(t *testing.T) {
	server, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	key, err := server.CreateKey(awsserver.KeySpec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetIdentity(awsserver.Identity{AccessKeyID: "AKIAWORKER", SecretAccessKey: "worker-canary", Policy: `{"Statement": [
		{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:namespace": "payments"}}},
		{"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"}]}`}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAWORKER")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "worker-canary")
	uri := "awskms:///" + key.ARN() + "?endpoint=" + server.URL()
	told, code := examineURI(t, uri, "--namespace", "payments")
	wantHealthy(t, told, code)
	if c := told.find(t, doctor.Bound); c.Detail != "we may not unwrap under another namespace" {
		t.Errorf("got %+v", c)
	}
	told, code = examineURI(t, uri)
	wantFailing(t, told, code, kms.Denied, "mind conditions on the encryption context", doctor.Wraps)
}

func TestDoctorGCP(t *testing.T) {
	server, err := gcpserver.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const name = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	if err := server.AddKey(name); err != nil {
		t.Fatal(err)
	}
	at := "?insecure-plaintext=true&endpoint=" + server.Addr()
	server.TellTime(-3 * time.Minute)
	told, code := examineURI(t, "gcpkms://"+name+at)
	wantHealthy(t, told, code)
	wantTold(t, told, doctor.Clock, "warn", "behind ours")
	wantTold(t, told, doctor.Description, "pass", "primary version 1")
	wantTold(t, told, doctor.Note, "warn", "rotation schedule")
	server.TellTime(0)
	told, code = examineURI(t, "gcpkms://"+name+at)
	wantHealthy(t, told, code)
	wantTold(t, told, doctor.Clock, "pass", "in step")

	if err := server.SetState(name, 1, kmspb.CryptoKeyVersion_DISABLED); err != nil {
		t.Fatal(err)
	}
	told, code = examineURI(t, "gcpkms://"+name+at)
	wantFailing(t, told, code, kms.Disabled, "", doctor.Description, doctor.Wraps)
	if err := server.SetState(name, 1, kmspb.CryptoKeyVersion_ENABLED); err != nil {
		t.Fatal(err)
	}
	server.Deny("cloudkms.cryptoKeyVersions.useToDecrypt", "")
	told, code = examineURI(t, "gcpkms://"+name+at)
	wantFailing(t, told, code, kms.Denied, "cloudkms.cryptoKey", doctor.Unwraps)
	server.Allow("cloudkms.cryptoKeyVersions.useToDecrypt", "")
	told, code = examineURI(t, "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/typo"+at)
	failed, hint := told.failing()
	if code != exitFailure || len(failed) == 0 || hint == "" {
		t.Errorf("a key that is not there: %d, %+v", code, told)
	}
	server.Close()
	told, code = examineURI(t, "gcpkms://"+name+at, "--timeout", "2s")
	wantFailing(t, told, code, kms.Unavailable, "", doctor.Opens, doctor.Reachable, doctor.Wraps)
}

func TestDoctorVault(t *testing.T) {
	vault := vaulttest.Start(t)
	vault.EnableTransit(t, "transit")
	vault.CreateKey(t, "transit", "payments", nil)
	vault.CreateKey(t, "transit", "signing", map[string]any{"type": "ed25519"})
	t.Setenv("VAULT_ADDR", vault.Addr)
	vault.WritePolicy(t, "worker", `path "transit/*" { capabilities = ["read", "update"] }`)
	t.Setenv("VAULT_TOKEN", vault.Token(t, "worker"))
	told, code := examineURI(t, "hashivault://transit/payments")
	wantHealthy(t, told, code)
	wantTold(t, told, doctor.Identity, "pass", "worker")
	wantTold(t, told, doctor.Description, "pass", "aes256-gcm96")
	wantTold(t, told, doctor.Clock, "pass", "")
	wantTold(t, told, doctor.Credentials, "pass", "they last until")
	told, code = examineURI(t, "hashivault://transit/typo")
	wantFailing(t, told, code, kms.NotFound, "", doctor.Opens, doctor.Description, doctor.Wraps)
	told, code = examineURI(t, "hashivault://transit/signing")
	wantFailing(t, told, code, kms.Invalid, "", doctor.Opens, doctor.Description, doctor.Wraps)

	// What was sealed with other rights serves a codec server that may only open.
	config := writeFile(t, "waxseal.yaml", "keys:\n  k: {uri: \"hashivault://transit/payments\"}\nseal:\n  - match: {namespace: \"*\"}\n    keys: [k]\n    claims: [workflowId]\n")
	var sealed, errs bytes.Buffer
	a := &app{in: strings.NewReader(`{"data":"aGk="}`), out: &sealed, err: &errs, lookup: os.LookupEnv}
	if code := a.main(t.Context(), []string{"encode", "--config", config, "--namespace", "orders"}); code != exitOK {
		t.Fatal(errs.String())
	}
	payload := writeFile(t, "sealed.json", sealed.String())
	vault.WritePolicy(t, "codec", `path "transit/decrypt/payments" { capabilities = ["update"] }`)
	t.Setenv("VAULT_TOKEN", vault.Token(t, "codec"))
	told, code = examineURI(t, "hashivault://transit/payments", "--role", "codec-server", "--payload", payload)
	if c := told.find(t, doctor.Unwraps); code != exitOK || told.Status == "fail" || c.Status != "pass" || c.Detail != "the given payload's data key" {
		t.Errorf("as a codec server: %d, %+v", code, told)
	}
	if told.Latency == nil || told.Latency.Call != "unwrap" || told.find(t, doctor.Bound).Status != "pass" {
		t.Errorf("as a codec server: %+v", told)
	}
	told, code = examineURI(t, "hashivault://transit/payments")
	wantFailing(t, told, code, kms.Denied, "", doctor.Opens, doctor.Description, doctor.Wraps)

	vault.Stop()
	told, code = examineURI(t, "hashivault://transit/payments")
	wantFailing(t, told, code, kms.Unavailable, "check that Vault runs there", doctor.Opens, doctor.Reachable, doctor.Wraps)
}

func TestDoctorText(t *testing.T) {
	class := kms.Denied
	results := []doctor.Result{
		{Name: "a\x1b", Namespace: "n\u202e", URI: "x://a", ID: "x://a", Checks: []doctor.Check{
			{Name: doctor.Opens, Detail: "recorded as x://a"},
			{Name: doctor.Wraps, Status: doctor.Fail, Detail: "denied: x", Hint: "grant it", Class: &class},
			{Name: doctor.Unwraps, Status: doctor.Skip, Detail: "not tested: x"},
			{Name: doctor.Bound, Status: doctor.Skip, Detail: "not tested: x"},
		}},
		{Name: "b", Namespace: "n", URI: "x://b", Checks: []doctor.Check{
			{Name: doctor.Clock, Status: doctor.Warn, Detail: "off\n", Hint: "set it"},
			{Name: doctor.Credentials, Status: doctor.Skip, Detail: "y"},
			{Name: doctor.Wraps, Status: doctor.Skip, Detail: "z"},
			{Name: doctor.Unwraps, Status: doctor.Skip, Detail: "z"},
			{Name: doctor.Bound, Status: doctor.Skip, Detail: "z"},
		}, Times: &doctor.Times{Call: "wrap", Each: []time.Duration{time.Millisecond, 8 * time.Millisecond}}},
	}
	var out bytes.Buffer
	a := &app{out: &out, lookup: func(name string) (string, bool) { return "C.UTF-8", name == "LANG" }}
	if err := a.printDoctor(results); err != nil {
		t.Fatal(err)
	}
	const want = `a\x1b
x://a, for namespace n\u202e

  ok    opens        recorded as x://a
  FAIL  wraps        denied: x
                     hint: grant it
  -     unwraps      not tested: x
  -     context      not tested: x

b
x://b, for namespace n

  warn  clock        off\n
                     hint: set it
  -     credentials  y
  -     the rest     z

KEY  CALL  CALLS     MIN     P50     P99     MAX  EACH CALL
b    wrap      2  1.00ms  1.00ms  8.00ms  8.00ms  ▂█
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	results[0].Checks = results[0].Checks[:1]
	results[0].Name = "b" // twice, for two namespaces
	if err := a.printDoctor(results); err != nil || !strings.HasSuffix(out.String(), "\n\n2 of 2 keys pass, 1 with warnings\n") || !strings.Contains(out.String(), "\nb for n\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestDoctorInterrupted(t *testing.T) {
	stalled := httptest.NewServer(nil)
	defer stalled.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config := writeFile(t, "waxseal.yaml", "keys:\n  k: {uri: \"hashivault://transit/k?address="+url.QueryEscape(stalled.URL)+"\"}\nseal:\n  - match: {namespace: \"*\"}\n    keys: [k]\n")
	t.Setenv("VAULT_TOKEN", "x")
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs, lookup: os.LookupEnv}
	if code := a.main(ctx, []string{"doctor", "--config", config}); code != exitInterrupted || out.Len() > 0 {
		t.Errorf("exit code %d, %s%s", code, out.String(), errs.String())
	}
}

func TestShownURI(t *testing.T) {
	for uri, want := range map[string]string{"x://a/b?token=canary#c": "x://a/b#c", "canary canary": "a URI that is none"} {
		if got := shownURI(uri); got != want {
			t.Errorf("%s: %s", uri, got)
		}
	}
	_, err := opener(registry(), "local:///no\x00where#k")(t.Context())
	if _, ok := errors.AsType[*kms.Error](err); !ok {
		t.Errorf("got %v", err)
	}
}
