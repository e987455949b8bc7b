package terminal

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// showAfter is how long work may take before the line appears.
	showAfter = time.Second
	// refresh is how often the line is written.
	refresh = 100 * time.Millisecond
)

// Progress shows one line on a terminal with the progress of work that takes longer than a
// second, and removes it at the end. Its methods may be called concurrently.
type Progress struct {
	done atomic.Int64
	stop func()
}

// StartProgress shows the progress of total steps on w, if that is a terminal. what
// follows the numbers, as in "payloads opened". The caller must call Stop.
func StartProgress(w io.Writer, total int, what string) *Progress {
	if !Is(w) {
		return &Progress{stop: func() {}}
	}
	return startProgress(w, total, what)
}

func startProgress(w io.Writer, total int, what string) *Progress {
	p := &Progress{}
	end, ended := make(chan struct{}), make(chan struct{})
	p.stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	go func() {
		defer close(ended)
		wait := time.NewTimer(showAfter)
		defer wait.Stop()
		for shown := false; ; shown = true {
			select {
			case <-end:
				if shown {
					_, _ = io.WriteString(w, "\r\x1b[K")
				}
				return
			case <-wait.C:
				_, _ = fmt.Fprintf(w, "\r%d of %d %s\x1b[K", p.done.Load(), total, what)
				wait.Reset(refresh)
			}
		}
	}()
	return p
}

// Add counts n more steps as done.
func (p *Progress) Add(n int) { p.done.Add(int64(n)) }

// Stop removes the line. It may be called again.
func (p *Progress) Stop() { p.stop() }
