package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
)

// TemporalOptions says what server to start. The zero value is a server in
// memory with the namespace "default" and no Web UI.
type TemporalOptions struct {
	Namespaces       []string                            // made before the server starts; nil means "default"
	SearchAttributes map[string]enumspb.IndexedValueType // custom ones, in every namespace
	DBFile           string                              // SQLite file that holds everything the server stores; "" means in memory
	Port             int                                 // of the frontend; 0 means a free one
	UI               bool                                // start the Web UI
	UIPort           int                                 // of the Web UI; 0 means a free one
	UICodecEndpoint  string                              // codec server URL that the Web UI uses for all its users
	UICodecPassToken bool                                // let the Web UI pass the user's token to the codec server
}

func (o TemporalOptions) args() []string {
	args := []string{"--port", strconv.Itoa(o.Port)}
	if len(o.Namespaces) > 0 {
		args = append(args, "--namespaces", strings.Join(o.Namespaces, ","))
	}
	if len(o.SearchAttributes) > 0 {
		var list []string
		for name, typ := range o.SearchAttributes {
			list = append(list, name+"="+typ.String())
		}
		slices.Sort(list)
		args = append(args, "--search-attributes", strings.Join(list, ","))
	}
	if o.DBFile != "" {
		args = append(args, "--db", o.DBFile)
	}
	if o.UI {
		args = append(args, "--ui-port", strconv.Itoa(o.UIPort), "--ui-codec-endpoint", o.UICodecEndpoint)
		if o.UICodecPassToken {
			args = append(args, "--ui-codec-pass-token")
		}
	}
	return args
}

// Temporal is a Temporal server that runs.
type Temporal struct {
	HostPort string // of the frontend, for client.Options and --address
	HTTPAddr string // host:port of the frontend's HTTP API
	UIURL    string // of the Web UI, without a slash at the end; "" without one
	DBFile   string // the database file; "" when in memory
	*process
}

// RunTemporal starts a Temporal server and returns when it answers. ctx bounds
// the start; Stop ends the server.
func RunTemporal(ctx context.Context, o TemporalOptions) (*Temporal, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	path, err := find(ctx, programTemporal)
	if err != nil {
		return nil, err
	}
	first := newFirstLine()
	//nolint:gosec,noctx // our own program; it outlives ctx, which is for the start alone
	p, err := startProcess("the Temporal server", exec.Command(path, o.args()...), first)
	if err != nil {
		return nil, err
	}
	t := &Temporal{DBFile: o.DBFile, process: p}
	select {
	case line := <-first.line:
		err = t.readiness(line)
	case <-p.exited:
		err = p.ended()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(p.failure(err), p.Stop())
	}
	return t, nil
}

// readiness takes the addresses from the line that the server prints when it
// answers.
func (t *Temporal) readiness(line string) error {
	var r struct {
		Ready          bool
		GRPC, HTTP, UI string
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return fmt.Errorf("read its readiness line %q: %w", line, err)
	}
	if !r.Ready || r.GRPC == "" {
		return fmt.Errorf("its readiness line names no address: %q", line)
	}
	t.HostPort, t.HTTPAddr, t.UIURL = r.GRPC, r.HTTP, r.UI
	return nil
}

// StartTemporal starts a Temporal server for one test, which fails when that
// cannot be done. The server ends with the test; a failed test shows the end of
// the server's log.
func StartTemporal(tb testing.TB, o TemporalOptions) *Temporal {
	tb.Helper()
	t, err := RunTemporal(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	endWith(tb, t.process)
	return t
}

// endWith stops the server when the test ends.
func endWith(tb testing.TB, p *process) {
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Error(err)
		}
		if log := p.log.String(); tb.Failed() && log != "" {
			tb.Logf("the log of %s ends:\n%s", p.name, log)
		}
	})
}
