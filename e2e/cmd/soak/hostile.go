package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// alteredPerSecond is what two cores make of the test, for an estimate.
const alteredPerSecond = 60

func hostileStage(s settings) stage {
	about := 30*time.Second + time.Duration(s.hostile/alteredPerSecond)*time.Second
	return stage{name: "hostile", about: about, run: func(ctx context.Context, c *console, dir string) outcome {
		err := goTest{
			pkg: "codec/internal/hostile", run: "^TestHostileServer$", within: 6*about + 10*time.Minute,
			env: []string{"WAXSEAL_SOAK=1", fmt.Sprintf("WAXSEAL_HOSTILE_COUNT=%d", s.hostile)},
		}.follow(ctx, s.root, dir, func() {
			if line := lastAltered(filepath.Join(dir, "hostile.log")); line != "" {
				c.say(line)
			}
		})
		if err != nil {
			o := outcome{Verdict: broke, Files: []string{"hostile.log"}}
			o.fail(ctx, err)
			return o
		}
		return outcome{Verdict: passed, Files: []string{"hostile.log"}, Facts: fmt.Sprintf("%d responses of a hostile server altered: no secret left, and nothing was taken in", s.hostile)}
	}}
}

// lastAltered returns the last line in which the test says how far it is.
func lastAltered(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	end := bytes.LastIndex(data, []byte(" responses altered"))
	if end < 0 {
		return ""
	}
	line, _, _ := strings.Cut(string(data[bytes.LastIndexByte(data[:end], '\n')+1:]), "\n")
	return line
}
