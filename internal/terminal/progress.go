package terminal

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long work may take without a word.
	patience = time.Second
	// refresh is how often the line is written anew.
	refresh = 100 * time.Millisecond
)

// Progress tells on a terminal how far a piece of work is, if it takes longer
// than a second: one line, written over and over and taken away in the end. Its
// methods may be called concurrently.
type Progress struct {
	done atomic.Int64
	stop func()
}

// StartProgress tells about work of total steps on w, if that is a terminal.
// what follows the numbers, as in "payloads opened". Stop it.
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
		wait := time.NewTimer(patience)
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

// Add tells that n more steps are done.
func (p *Progress) Add(n int) { p.done.Add(int64(n)) }

// Stop takes the line away. It may be called again.
func (p *Progress) Stop() { p.stop() }
