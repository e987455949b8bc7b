package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/waxseal/waxseal/internal/terminal"
)

const (
	// lineWidth is how long the line of progress may be: the narrowest terminal.
	lineWidth = 79
	// redraw is how often the line is written anew on a terminal, and remind how often
	// a line is written elsewhere.
	redraw = time.Second
	remind = 30 * time.Second
)

// console prints progress: one line that changes on a terminal, a line now and then
// elsewhere. Its methods may be called concurrently.
type console struct {
	w     io.Writer
	tty   bool
	style terminal.Style

	mu     sync.Mutex
	stage  string
	about  time.Duration // how long the stage is going to take
	began  time.Time
	detail string
	shown  bool // a line is there to be overwritten
}

// begin begins a stage that takes about so long.
func (c *console) begin(stage string, about time.Duration) {
	c.mu.Lock()
	c.stage, c.about, c.began, c.detail = stage, about, time.Now(), ""
	c.mu.Unlock()
	if !c.tty {
		c.draw()
	}
}

// say changes what follows the times.
func (c *console) say(detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detail = detail
}

// print writes lines above the one that changes.
func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	_, _ = io.WriteString(c.w, text)
}

// show keeps the line up to date until the function that it returns is called.
func (c *console) show() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	every := redraw
	if !c.tty {
		every = remind
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.draw()
			case <-end:
				c.mu.Lock()
				defer c.mu.Unlock()
				c.clear()
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

func (c *console) draw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stage == "" {
		return
	}
	line := c.line(time.Since(c.began))
	if !c.tty {
		fmt.Fprintln(c.w, line)
		return
	}
	fmt.Fprintf(c.w, "\r%s\x1b[K", line)
	c.shown = true
}

func (c *console) line(elapsed time.Duration) string {
	times := fmt.Sprintf("%s, about %s to go", minutes(elapsed), minutes(max(c.about-elapsed, 0)))
	if elapsed > c.about {
		times = fmt.Sprintf("%s, longer than the usual %s", minutes(elapsed), minutes(c.about))
	}
	line := strings.TrimRight(fmt.Sprintf("%s  %s  %s", c.stage, times, c.detail), " ")
	if runes := []rune(line); c.tty && utf8.RuneCountInString(line) > lineWidth {
		line = string(runes[:lineWidth-1]) + "…"
	}
	return line
}

// clear takes the line away. It is called with mu held.
func (c *console) clear() {
	if c.shown {
		_, _ = io.WriteString(c.w, "\r\x1b[K")
		c.shown = false
	}
}

func minutes(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
