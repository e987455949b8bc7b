//go:build !linux

package envelope_test

import "github.com/waxseal/waxseal/internal/memtest"

// memoryRoles is empty where no test starts a child.
var memoryRoles map[string]func(*memtest.Child) error
