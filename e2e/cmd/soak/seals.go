package main

import (
	"context"
	"fmt"
	"time"
)

// sealsPerSecond is what two cores make of the test, for an estimate.
const sealsPerSecond = 150_000

func sealsStage(s settings) stage {
	about := 20*time.Second + time.Duration(s.seals/sealsPerSecond)*time.Second
	return stage{name: "seals", about: about, run: func(ctx context.Context, _ *console, dir string) outcome {
		test := goTest{pkg: "envelope", run: "^TestNothingIsUsedTwice$", within: 4*about + 10*time.Minute}
		switch s.seals {
		case sealsSoak:
			test.env = []string{"WAXSEAL_SOAK=1"}
		case sealsSuite:
			test.env = []string{"WAXSEAL_SOAK=0"}
		case sealsShort:
			test.env, test.args = []string{"WAXSEAL_SOAK=0"}, []string{"-test.short"}
		}
		if err := test.follow(ctx, s.root, dir, func() {}); err != nil {
			o := outcome{Verdict: broke}
			o.fail(ctx, err)
			return o
		}
		return outcome{Verdict: passed, Facts: fmt.Sprintf("%d seals, none with a data key, salt and nonce that was used before", s.seals)}
	}}
}
