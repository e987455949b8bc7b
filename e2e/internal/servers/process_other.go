//go:build unix && !linux

package servers

import "syscall"

// processAttributes cannot tie the server's life to this process here: a test
// binary that is killed leaves its servers running.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
