package blackout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// artifacts is the folder that keeps pictures and figures for inspection.
var artifacts = filepath.Join("..", "artifacts")

// finish is for a machine that does a lot else; a quiet one takes half a minute.
const finish = 4 * time.Minute

// TestBlackout has 500 workflows lose their KMS for two minutes, and fewer go
// through the other kinds of outage: see Arms. With -short there are 100, and 45
// seconds: enough for the race detector, which takes several times the processor's time.
func TestBlackout(t *testing.T) {
	arms := Arms(2*time.Minute, finish, Size{Main: 500, Others: 50, MainControl: 40, OtherControl: 15})
	if testing.Short() {
		arms = Arms(45*time.Second, finish, Size{Main: 100, Others: 20, MainControl: 20, OtherControl: 15})
	}
	r, err := Run(t.Context(), Config{Arms: arms})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range r.Problems() {
		t.Error(problem)
	}
	var table bytes.Buffer
	if err := r.Write(&table, false, true); err != nil {
		t.Error(err)
	}
	t.Logf("took %.0f s\n%s", r.Took, &table)
	if err := os.MkdirAll(artifacts, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Lanes {
		if l.Control {
			continue
		}
		if err := os.WriteFile(filepath.Join(artifacts, "blackout-"+l.Arm+".svg"), r.Timeline(l.Arm), 0o600); err != nil {
			t.Error(err)
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(artifacts, "blackout.json"), data, 0o600); err != nil {
		t.Error(err)
	}
}

// TestInterrupted ends a run early: it says what it knows, and leaves nothing
// running.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var phases []string
	r, err := Run(ctx, Config{
		Arms: Arms(time.Hour, time.Hour, Size{Main: 3, Others: 1, MainControl: 1})[:1],
		Progress: func(p Progress) {
			phases = append(phases, p.Phase)
			for _, l := range p.Lanes {
				if !l.Control && l.Sample.Open > 0 {
					cancel(enough)
				}
			}
		},
	})
	if !errors.Is(err, enough) || r == nil || !r.Interrupted || len(r.Lanes) != 2 || len(r.Lanes[0].Samples) == 0 || r.Lanes[0].Untold != 3 {
		t.Fatalf("ended with %v and %+v after %q", err, r, phases)
	}
	if len(r.Problems()) == 0 {
		t.Error("an interrupted run has no problem")
	}
}

// TestBeforeItBegins: a run that cannot begin has no report.
func TestBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Run(ctx, Config{Arms: Arms(time.Second, time.Second, Size{Main: 1, Others: 1})}); err == nil || r != nil {
		t.Errorf("ran all the same: %v, %+v", err, r)
	}
}
