package vaultkms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	opLogin = "log in to Vault"

	// maxSecretFile is more than any token, secret ID or JWT has.
	maxSecretFile = 64 << 10

	// fileEvery is how often a token's file is looked at, at most.
	fileEvery = time.Second
)

// newMethod returns what logs in as a says; nil where nothing is to be sent.
func newMethod(c *client, a Auth) loginMethod {
	switch {
	case a.Method == AuthAppRole:
		return &appRole{client: c, auth: a}
	case a.Method == AuthKubernetes || a.Method == AuthJWT:
		return &jwtLogin{client: c, auth: a}
	case a.TokenFile != "":
		return &tokenFile{path: a.TokenFile}
	case a.Token != "":
		return givenToken(func() Token { return a.Token })
	}
	return nil
}

// givenToken is a token that never changes, in a function so that printing a Key
// does not show it.
type givenToken func() Token

func (g givenToken) logIn(context.Context) (lease, error) {
	return lease{token: g(), unknown: true}, nil
}
func (givenToken) given() bool       { return true }
func (givenToken) changed(bool) bool { return false }

// tokenFile is a token in a file that another program writes, such as a Vault agent.
type tokenFile struct {
	path string

	mu     sync.Mutex
	read   fileState
	looked time.Time
}

// fileState distinguishes the contents of a file over time.
type fileState struct {
	modified time.Time
	size     int64
	info     fs.FileInfo
}

func stateOf(path string) (fileState, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, false
	}
	return fileState{modified: info.ModTime(), size: info.Size(), info: info}, true
}

func (s fileState) same(t fileState) bool {
	return s.info != nil && s.modified.Equal(t.modified) && s.size == t.size && os.SameFile(s.info, t.info)
}

func (f *tokenFile) logIn(context.Context) (lease, error) {
	state, _ := stateOf(f.path) // before reading: what changes meanwhile is read again
	f.mu.Lock()
	f.read, f.looked = state, time.Now()
	f.mu.Unlock()
	token, err := readSecretFile("the token", f.path)
	return lease{token: token, unknown: true}, err
}

func (f *tokenFile) given() bool { return true }

// changed takes a file that is gone for one that is about to be replaced.
func (f *tokenFile) changed(atOnce bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !atOnce && time.Since(f.looked) < fileEvery {
		return false
	}
	f.looked = time.Now()
	state, ok := stateOf(f.path)
	return ok && !f.read.same(state)
}

// readSecretFile reads a file that holds one secret, and white space at its end.
// One that cannot be read, or holds something else, is Unavailable and nothing
// worse: its writer may be about to complete it, and Vault has not refused anything.
func readSecretFile(what, path string) (Token, error) {
	fail := func(detail string, err error) error {
		return driver.Refuse(kms.Unavailable, what+" cannot be read from its file: "+detail,
			"check that the file is there, is readable for this process, and holds nothing else").Error(opLogin, "", err)
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fail("there is none", err)
	case err != nil:
		return "", fail("it cannot be opened", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	defer clear(content)
	secret := Token(bytes.TrimSpace(content))
	switch {
	case err != nil:
		return "", fail("reading it failed", err)
	case secret == "":
		return "", fail("it is empty", nil)
	case len(content) > maxSecretFile || !secret.valid():
		return "", fail("it holds more than one word", nil)
	}
	return secret, nil
}

// appRole logs in with a role ID and a secret ID.
type appRole struct {
	client *client
	auth   Auth

	mu sync.Mutex
	// The secret ID that was unwrapped, and from what: a wrapping token serves once.
	wrapped, unwrapped Token
}

func (*appRole) given() bool       { return false }
func (*appRole) changed(bool) bool { return false }

func (r *appRole) logIn(ctx context.Context) (lease, error) {
	secretID := r.auth.SecretID
	if r.auth.SecretIDFile != "" {
		var err error
		if secretID, err = readSecretFile("the secret ID", r.auth.SecretIDFile); err != nil {
			return lease{}, err
		}
	}
	if r.auth.SecretIDWrapped {
		var err error
		if secretID, err = r.unwrap(ctx, secretID); err != nil {
			return lease{}, err
		}
	}
	return r.client.logIn(ctx, r.auth, map[string]string{"role_id": r.auth.RoleID, "secret_id": string(secretID)},
		"check the role ID and the secret ID: it may have expired or been used up")
}

// unwrap returns the secret ID that a wrapping token stands for. The token must be
// for a secret ID of our auth mount: an attacker that swapped it could have us log
// in as another role.
func (r *appRole) unwrap(ctx context.Context, wrapped Token) (Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wrapped == r.wrapped {
		return r.unwrapped, nil
	}
	const taken = "wrap a new secret ID; if the token's time was not over, another program has unwrapped this one: revoke that secret ID"
	info, err := r.client.askLogin(ctx, request{
		method: http.MethodPost, path: "sys/wrapping/lookup", namespace: r.auth.Namespace, body: marshal(map[string]string{"token": string(wrapped)}),
	}, taken)
	if err != nil {
		return "", err
	}
	switch path := info.Data.CreationPath; {
	case path == "":
		return "", r.client.notALogin()
	case !strings.Contains("/"+path, "/auth/"+r.auth.Mount+"/role/") || !strings.HasSuffix(path, "secret-id"):
		return "", driver.Refuse(kms.Denied, "the wrapped secret ID is not one that auth/"+r.auth.Mount+" made",
			"find out where it comes from, and wrap a new secret ID").Error(opLogin, "", nil)
	}
	got, err := r.client.askLogin(ctx, request{
		method: http.MethodPost, path: "sys/wrapping/unwrap", namespace: r.auth.Namespace, token: wrapped, once: true,
	}, taken)
	if err != nil {
		return "", err
	}
	if got.Data.SecretID == "" {
		return "", r.client.notALogin()
	}
	r.wrapped, r.unwrapped = wrapped, got.Data.SecretID
	return r.unwrapped, nil
}

// jwtLogin logs in with a JWT, such as the token of a Kubernetes service account.
type jwtLogin struct {
	client *client
	auth   Auth
	worked atomic.Bool // once, at least
}

func (*jwtLogin) given() bool       { return false }
func (*jwtLogin) changed(bool) bool { return false }

func (j *jwtLogin) logIn(ctx context.Context) (lease, error) {
	jwt, err := readSecretFile("the JWT", j.auth.JWTFile)
	if err != nil {
		return lease{}, err
	}
	got, err := j.client.logIn(ctx, j.auth, map[string]string{"role": j.auth.Role, "jwt": string(jwt)},
		"check that the role is bound to this service account and its namespace, that the JWT's audience is the role's, and that Vault can reach or verify the cluster")
	e, ok := errors.AsType[*kms.Error](err)
	switch {
	case err == nil:
		j.worked.Store(true)
	case !ok:
	case lacksKeys(err):
		e.Class, e.Detail = kms.Unavailable, "login: Vault cannot get the keys of who issued the JWT"
		e.Advice = "check that Vault reaches the issuer: jwks_url or oidc_discovery_url in auth/" + j.auth.Mount + "/config"
	case j.auth.Method == AuthKubernetes && j.worked.Load() && saysNoMore(err):
		// Vault has the same words for a token that the cluster refuses and for a
		// cluster that it cannot reach. Where the login has worked, the latter is by far
		// the likelier, and an outage must not pass for a refusal, which is final.
		e.Class, e.Detail = kms.Unavailable, "login: Vault cannot have the cluster review the service account's token, or the cluster does not know it any more"
		e.Advice = "check that Vault reaches the cluster's API server, and that the service account is still there"
	}
	return got, err
}

// saysNoMore reports whether all that Vault says is that permission is denied.
func saysNoMore(err error) bool {
	said, ok := errors.AsType[*vault.ResponseError](err)
	return ok && said.StatusCode == http.StatusForbidden && strings.Join(said.Errors, "") == "permission denied"
}

// lacksKeys reports whether the JWT method has nothing to check a signature with, because
// the issuer of the keys does not answer. Vault reports it with the status of a refused
// JWT.
func lacksKeys(err error) bool {
	said, ok := errors.AsType[*vault.ResponseError](err)
	if !ok || said.StatusCode != http.StatusBadRequest {
		return false
	}
	message := strings.Join(said.Errors, "\n")
	return strings.Contains(message, "error configuring token validator") || strings.Contains(message, "fetching keys")
}

// logIn sends credentials to a login endpoint.
func (c *client) logIn(ctx context.Context, auth Auth, credentials map[string]string, advice string) (lease, error) {
	for name, value := range credentials {
		if value == "" {
			delete(credentials, name)
		}
	}
	a, err := c.askLogin(ctx, request{
		method: http.MethodPost, path: "auth/" + auth.Mount + "/login", namespace: auth.Namespace, body: marshal(credentials),
	}, advice)
	if err != nil {
		return lease{}, err
	}
	return c.lease(a)
}

// renew extends the time of token by its own increment.
func (c *client) renew(ctx context.Context, token Token) (lease, error) {
	a, err := c.askLogin(ctx, request{
		method: http.MethodPost, path: "auth/token/renew-self", namespace: c.authNamespace, token: token, body: []byte("{}"),
	}, "log in again")
	if err != nil {
		return lease{}, err
	}
	return c.lease(a)
}

// look returns how long token lasts.
func (c *client) look(ctx context.Context, token Token) (lease, error) {
	a, err := c.askLogin(ctx, request{method: http.MethodGet, path: "auth/token/lookup-self", namespace: c.authNamespace, token: token}, "check the token")
	if err != nil {
		return lease{}, err
	}
	return lease{token: token, ttl: seconds(a.Data.TTL), renewable: a.Data.Renewable}, nil
}

// lease is the token that a login or a renewal answered with.
func (c *client) lease(a *answer) (lease, error) {
	switch {
	case a.Auth.Token == "" && len(a.Auth.SecondFactor) > 0:
		return lease{}, loginError(driver.Refuse(kms.Denied, "Vault wants a second factor",
			"take the login's mount out of multi-factor authentication: a process cannot give one"), nil)
	case a.Auth.Token == "", !a.Auth.Token.valid():
		return lease{}, c.notALogin()
	}
	return lease{token: a.Auth.Token, ttl: seconds(a.Auth.Duration), renewable: a.Auth.Renewable}, nil
}

// notALogin is about a good answer without what Vault gives in it. It must not pass
// for a refusal of Vault's.
func (c *client) notALogin() error {
	return loginError(c.notVault(), errAnswer)
}

func loginError(r refusal, cause error) error {
	r.Detail = "login: " + r.Detail
	return r.Error(opLogin, "", cause)
}

// seconds is a duration of Vault's, which is never negative.
func seconds(n int64) time.Duration {
	const longest = 10 * 365 * 24 * 3600 // longer is as good as for ever, and does not overflow
	if n <= 0 {
		return 0
	}
	return time.Duration(min(n, longest)) * time.Second
}

// marshal writes a body of strings, which cannot fail.
func marshal(fields map[string]string) []byte {
	body, err := json.Marshal(fields)
	if err != nil {
		return nil
	}
	return body
}

// askLogin sends a request that is about a login and returns a good answer.
// Everything else is a *kms.Error; advice is for a refusal that says no more than that.
func (c *client) askLogin(ctx context.Context, req request, advice string) (*answer, error) {
	req.own, req.limit = true, maxAnswerRest
	r, err := c.send(ctx, req)
	if err != nil {
		why := c.noAnswer(err)
		if ctx.Err() != nil { // our own timeout, or Close
			why = c.noAnswer(&kms.LateError{Limit: c.timeout})
		}
		return nil, loginError(why, err)
	}
	defer clear(r.body)
	a, parseErr := parseAnswer(r.body)
	if parseErr == nil && !a.isVaults(r.status) {
		parseErr = errAnswer
	}
	switch {
	case parseErr == nil && r.status == http.StatusOK:
		return a, nil
	case parseErr != nil && !meansTheSameFromAnyone(r.status):
		return nil, loginError(c.notVault(), parseErr)
	case parseErr != nil:
		a = new(answer)
	}
	message := strings.Join(a.Errors, "\n")
	why := c.statusReason(r.status, message, a.Standby != nil)
	switch r.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		why = driver.Refuse(kms.Denied, "Vault refuses it at "+req.path, advice)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		why = driver.Refuse(kms.Denied, "there is no such login at "+req.path+", or no such Vault namespace",
			"check "+envAuthMount+" and "+envAuthNamespace+", or mount the auth method there")
	}
	if strings.Contains(message, "past the max TTL") { // with a status of 500
		why = driver.Refuse(kms.Denied, "the token has had all its time", advice)
	}
	why.RetryAfter = r.retryAfter
	return nil, loginError(why, cause(r, a.Errors))
}
