//go:build !linux

package envelope_test

// memoryRoles is empty where no test starts a child.
var memoryRoles map[string]func(*child) error
