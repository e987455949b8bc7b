package servers

import "syscall"

// processAttributes makes the kernel kill the server when this process dies,
// however it dies: a test binary that is killed leaves nothing running.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
