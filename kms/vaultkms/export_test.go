package vaultkms

// The variables of the environment, for tests.
const (
	EnvAuthMethod      = envAuthMethod
	EnvAuthMount       = envAuthMount
	EnvAuthNamespace   = envAuthNamespace
	EnvTokenFile       = envTokenFile
	EnvRoleID          = envRoleID
	EnvSecretIDFile    = envSecretIDFile
	EnvSecretIDWrapped = envSecretIDWrapped
	EnvSecretID        = envSecretID
	EnvRole            = envRole
	EnvJWTFile         = envJWTFile
)
