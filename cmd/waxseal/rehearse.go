package main

import (
	"bufio"
	"strings"

	"github.com/waxseal/waxseal/internal/devkms"
)

// rehearse reads outages to play, a line each, to the end of the input. The servers go on after that.
func (a *app) rehearse(d *devkms.Servers) {
	lines := bufio.NewScanner(a.in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		which, t, err := devkms.ParseTrouble(words)
		if err != nil {
			a.report(err)
			continue
		}
		d.GoWrong(which, t)
		a.say(severityNote, strings.Join(words, " "))
	}
}
