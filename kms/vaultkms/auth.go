package vaultkms

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	vault "github.com/hashicorp/vault/api"
)

// AuthMethod is a way to get a token.
type AuthMethod string

const (
	// AuthToken uses a token that was given to us, and renews it if it can be.
	AuthToken AuthMethod = "token"
	// AuthAppRole logs in with a role ID and a secret ID.
	AuthAppRole AuthMethod = "approle"
	// AuthKubernetes logs in with the token of a Kubernetes service account, which Vault
	// reviews through the cluster.
	AuthKubernetes AuthMethod = "kubernetes"
	// AuthJWT logs in with a JWT that Vault verifies by itself: a service account's token,
	// or a CI system's.
	AuthJWT AuthMethod = "jwt"
)

// The variables that say how to log in, where Vault's own tools have none.
const (
	envAuthMethod      = "VAULT_AUTH_METHOD"
	envAuthMount       = "VAULT_AUTH_MOUNT"
	envAuthNamespace   = "VAULT_AUTH_NAMESPACE"
	envTokenFile       = "VAULT_TOKEN_FILE"
	envRoleID          = "VAULT_ROLE_ID"
	envSecretID        = "VAULT_SECRET_ID"
	envSecretIDFile    = "VAULT_SECRET_ID_FILE"
	envSecretIDWrapped = "VAULT_SECRET_ID_WRAPPED"
	envRole            = "VAULT_ROLE"
	envJWTFile         = "VAULT_JWT_FILE"
)

// serviceAccountToken is where Kubernetes puts a pod's token.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path, no secret

// Auth says how to get a token. The zero value takes everything from the
// environment: VAULT_AUTH_METHOD names the method; without it, VAULT_TOKEN,
// VAULT_TOKEN_FILE and VAULT_ROLE_ID do, the first that is set. What belongs to
// another method is ignored in the environment and an error in Auth.
type Auth struct {
	// Method to use; default VAULT_AUTH_METHOD, then that of the field that is set.
	Method AuthMethod
	// Mount is the path of the auth method below auth/; default VAULT_AUTH_MOUNT,
	// then the method's name.
	Mount string
	// Namespace is the Vault namespace to log in to, the key's or one above it;
	// default VAULT_AUTH_NAMESPACE, then the key's. "root" is the root namespace.
	Namespace string

	// Token to use as it is; default VAULT_TOKEN. There may be none only where
	// VAULT_AGENT_ADDR names an agent that adds its own.
	Token Token
	// TokenFile holds the token, and may change at any time, as a Vault agent's
	// sink does; default VAULT_TOKEN_FILE.
	TokenFile string

	// RoleID of an AppRole; default VAULT_ROLE_ID.
	RoleID string
	// SecretID of an AppRole; default VAULT_SECRET_ID. There may be none for a role
	// that does not demand one.
	SecretID Token
	// SecretIDFile holds the secret ID, and is read at each login; default
	// VAULT_SECRET_ID_FILE.
	SecretIDFile string
	// SecretIDWrapped says that the secret ID is a response-wrapping token, from
	// which the real one is unwrapped, once; default VAULT_SECRET_ID_WRAPPED.
	SecretIDWrapped bool

	// Role of the Kubernetes or JWT method; default VAULT_ROLE.
	Role string
	// JWTFile holds the JWT, and is read at each login; default VAULT_JWT_FILE,
	// then where Kubernetes puts a pod's token.
	JWTFile string
}

// fill completes a from the environment. viaAgent says that there may be no token.
func (a Auth) fill(keyNamespace string, viaAgent bool) Auth {
	var token, appRole, jwt Auth // what the environment has for each method
	token.Token, token.TokenFile = Token(os.Getenv(vault.EnvVaultToken)), os.Getenv(envTokenFile)
	appRole.RoleID, appRole.SecretID, appRole.SecretIDFile = os.Getenv(envRoleID), Token(os.Getenv(envSecretID)), os.Getenv(envSecretIDFile)
	appRole.SecretIDWrapped, _ = strconv.ParseBool(os.Getenv(envSecretIDWrapped)) // check reports what it cannot read
	jwt.Role, jwt.JWTFile = os.Getenv(envRole), cmp.Or(os.Getenv(envJWTFile), serviceAccountToken)

	switch {
	case a.Method != "":
	case a.Token != "" || a.TokenFile != "":
		a.Method = AuthToken
	case a.RoleID != "":
		a.Method = AuthAppRole
	case os.Getenv(envAuthMethod) != "":
		a.Method = AuthMethod(os.Getenv(envAuthMethod))
	case viaAgent && token.Token == "", token.Token != "", token.TokenFile != "", appRole.RoleID == "":
		a.Method = AuthToken
	default:
		a.Method = AuthAppRole
	}
	switch a.Method {
	case AuthToken:
		if a.Token == "" && a.TokenFile == "" {
			if a.Token = token.Token; a.Token == "" {
				a.TokenFile = token.TokenFile
			}
		}
	case AuthAppRole:
		a.RoleID = cmp.Or(a.RoleID, appRole.RoleID)
		if a.SecretID == "" && a.SecretIDFile == "" {
			a.SecretID, a.SecretIDFile, a.SecretIDWrapped = appRole.SecretID, appRole.SecretIDFile, a.SecretIDWrapped || appRole.SecretIDWrapped
		}
	case AuthKubernetes, AuthJWT:
		a.Role, a.JWTFile = cmp.Or(a.Role, jwt.Role), cmp.Or(a.JWTFile, jwt.JWTFile)
	}
	if a.Method != AuthToken {
		a.Mount = strings.Trim(cmp.Or(a.Mount, os.Getenv(envAuthMount), string(a.Method)), "/")
	}
	a.Namespace = namespacePath(cmp.Or(a.Namespace, os.Getenv(envAuthNamespace), keyNamespace, "root"))
	return a
}

// namespacePath returns a namespace as Vault's header wants it; empty for root.
func namespacePath(namespace string) string {
	if namespace = strings.Trim(namespace, "/"); namespace != "root" {
		return namespace
	}
	return ""
}

// check reports to bad what is wrong with a, which is filled in.
func (a Auth) check(viaAgent bool, bad func(problem, hint string)) {
	if a.Namespace != "" && !validPath(a.Namespace) {
		bad("the namespace to log in to has characters that no Vault namespace has", "correct "+envAuthNamespace)
	}
	if a.Method != AuthToken && !validPath(a.Mount) {
		bad("the mount of the login has characters that do not belong in a path", "correct "+envAuthMount)
	}
	const one = "give what one method needs, and leave the other methods' out"
	foreign := func(name string, given bool, methods ...AuthMethod) {
		for _, m := range methods {
			given = given && a.Method != m
		}
		if given {
			bad(name+" does not belong to the login method", one)
		}
	}
	foreign("the token", a.Token != "" || a.TokenFile != "", AuthToken)
	foreign("the role ID or secret ID", a.RoleID != "" || a.SecretID != "" || a.SecretIDFile != "" || a.SecretIDWrapped, AuthAppRole)
	foreign("the role or JWT file", a.Role != "" || a.JWTFile != "", AuthKubernetes, AuthJWT)
	switch a.Method {
	case AuthToken:
		a.checkToken(viaAgent, bad)
	case AuthAppRole:
		const set = "set " + envRoleID + ", and " + envSecretID + " or " + envSecretIDFile
		if a.RoleID == "" {
			bad("there is no role ID", set)
		}
		if a.SecretID != "" && a.SecretIDFile != "" {
			bad("there are both a secret ID and a file for one", set)
		}
		if a.SecretIDWrapped && a.SecretID == "" && a.SecretIDFile == "" {
			bad("there is no wrapped secret ID", set)
		}
		if text := os.Getenv(envSecretIDWrapped); text != "" {
			if _, err := strconv.ParseBool(text); err != nil {
				bad(envSecretIDWrapped+" is neither true nor false", "set "+envSecretIDWrapped+"=true, or leave it out")
			}
		}
		if !a.SecretID.valid() {
			bad("the secret ID holds a space, a line break or other characters that none has", set+", without a trailing line break")
		}
	case AuthKubernetes, AuthJWT:
		if a.Role == "" {
			bad("there is no role to log in as", "set "+envRole+", or ?"+paramRole+"= in the key URI")
		}
	default:
		bad("the login method is none that we know", "set "+envAuthMethod+" to token, approle, kubernetes or jwt")
	}
}

// noToken is the problem of a process that has not logged in: like every other lack of
// rights it is Denied, if it is the only problem.
const noToken = "there is no token"

func (a Auth) checkToken(viaAgent bool, bad func(problem, hint string)) {
	switch {
	case !a.Token.valid():
		bad("the token holds a space, a line break or other characters that no token has",
			"set VAULT_TOKEN to the token alone, without a trailing line break")
	case a.Token != "" && a.TokenFile != "":
		bad("there are both a token and a file for one", "set VAULT_TOKEN or "+envTokenFile)
	case a.Token == "" && a.TokenFile == "" && !viaAgent:
		bad(noToken, "set VAULT_TOKEN, "+envTokenFile+" or "+envAuthMethod+", or VAULT_AGENT_ADDR where a Vault agent adds its own")
	}
}
