package servers

import (
	"fmt"
	"io"
	"os/exec"
)

// Program is a program that was started to do something and end.
type Program struct{ *process }

// RunProgram starts a program, which gets a process group of its own and (on
// Linux) ends with this process, however that ends. Its standard output goes to
// stdout. name is for errors.
func RunProgram(name string, cmd *exec.Cmd, stdout io.Writer) (*Program, error) {
	p, err := startProcess(name, cmd, stdout)
	if err != nil {
		return nil, err
	}
	return &Program{p}, nil
}

// Ended returns a channel that is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.exited }

// Err waits for the end and returns an error unless the exit code was 0, with the
// end of what the program said on standard error.
func (p *Program) Err() error {
	<-p.exited
	if p.cmd.ProcessState.Success() {
		return nil
	}
	return fmt.Errorf("servers: %s ended with %v; it said last:\n%s", p.name, p.cmd.ProcessState, p.log.String())
}
