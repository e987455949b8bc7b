package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/errordetails/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/waxseal/waxseal/e2e/internal/payloads"
)

// TestCanaries runs the script twice, with the plugin and without. It searches everything
// that passed between workers, clients and server, that the server's API returns, and that
// the server stored. Without the plugin all canaries must show, or the search would prove
// nothing. With it, only those of plainRows may show, and an envelope must hold each other
// one where it showed before.
func TestCanaries(t *testing.T) {
	t.Parallel()
	var control, sealed *evidence
	t.Run("arms", func(t *testing.T) {
		t.Run("control", func(t *testing.T) { t.Parallel(); control = gather(t, false) })
		t.Run("sealed", func(t *testing.T) { t.Parallel(); sealed = gather(t, true) })
	})
	if t.Failed() {
		return
	}
	secret, allowed := kindsOf(sealedRows()), kindsOf(plainRows())

	t.Run("the inventory has every canary once", func(t *testing.T) {
		times := make(map[string]int)
		for _, r := range append(sealedRows(), plainRows()...) {
			for _, kind := range r.kinds {
				times[kind]++
			}
		}
		for _, kind := range neverSent() {
			times[kind]++
		}
		for _, kind := range sealed.flock.Kinds() {
			if times[kind] != 1 {
				t.Errorf("%s is there %d times", kind, times[kind])
			}
			delete(times, kind)
		}
		for kind := range times {
			t.Errorf("the script has no %s", kind)
		}
	})
	t.Run("without the plugin everything shows", func(t *testing.T) {
		for _, kind := range control.flock.Kinds() {
			if sent := !slices.Contains(neverSent(), kind); sent != (control.plain[onTheWire][kind] != nil) {
				t.Errorf("%s: found %v", kind, !sent)
			}
		}
		for place, found := range control.plain {
			if len(found) < 100 {
				t.Errorf("only %d canaries %s", len(found), place)
			}
		}
	})
	t.Run("with the plugin only the allow-list shows", func(t *testing.T) {
		stale := maps.Clone(allowed)
		for place, found := range sealed.plain {
			for kind, disguises := range found {
				delete(stale, kind)
				if !allowed[kind] {
					t.Errorf("LEAK: %s is in plaintext %s (%q; first %s)", kind, place, disguises, sealed.examples[kind])
				}
			}
		}
		for kind := range stale {
			t.Errorf("%s is on the allow-list, and is not found in plaintext any more", kind)
		}
	})
	t.Run("what showed comes out of envelopes now", func(t *testing.T) {
		for place, found := range control.plain {
			for kind := range found {
				// What the API does not return is in the database for a moment only.
				gone := place == inTheDB && control.plain[fromTheAPI][kind] == nil || place != onTheWire && notKept(kind)
				if secret[kind] && !sealed.opened[place][kind] && !gone {
					t.Errorf("%s showed %s without the plugin; with it, no envelope there has it", kind, place)
				}
			}
		}
		for kind := range secret {
			if !sealed.opened[onTheWire][kind] {
				t.Errorf("%s was never sent", kind)
			}
		}
	})
	t.Run("all payloads are sealed but search attributes", func(t *testing.T) {
		for _, where := range slices.Sorted(maps.Keys(sealed.unsealed)) {
			if !strings.HasPrefix(where, "temporal.api.common.v1.SearchAttributes.indexed_fields at ") && !strings.Contains(where, ".AggregationGroup.group_values at ") {
				t.Errorf("not sealed: %s", where)
			}
		}
	})
	t.Run("every payload field of the API is covered", func(t *testing.T) {
		services := []protoreflect.ServiceDescriptor{
			workflowservice.File_temporal_api_workflowservice_v1_service_proto.Services().Get(0),
			operatorservice.File_temporal_api_operatorservice_v1_service_proto.Services().Get(0),
		}
		excused := unreached()
		for _, field := range slices.Sorted(maps.Keys(payloads.Fields(services, (&errordetails.QueryFailedFailure{}).ProtoReflect().Descriptor()))) {
			short := strings.TrimPrefix(field, "temporal.api.")
			_, isExcused := excused[short]
			if sealed.fields[field] == isExcused {
				t.Errorf("%s: seen sealed: %v, excused: %v", short, sealed.fields[field], isExcused)
			}
			delete(excused, short)
		}
		for field := range excused {
			t.Errorf("the API has no field %s", field)
		}
	})
}

// notKept reports whether the server does not keep a kind as it came: of a pending
// activity's long failure it drops the sealed parts, and a pending operation fails in
// another way once the workers have gone.
func notKept(kind string) bool {
	return kind == "activity-failure-long" || kind == "nexus-pending-failure"
}

// gather plays the script and looks everywhere.
func gather(t *testing.T, sealing bool) *evidence {
	t.Helper()
	a := newArm(t, sealing)
	a.drive(t)
	readings := readEverything(t, a)
	a.stop()
	if err := a.server.Stop(); err != nil {
		t.Fatal(err)
	}
	e := newEvidence(a.flock, nil)
	if sealing {
		e.codec = newCodec(t, a.keyring) // another than the one that sealed
	}
	for _, r := range readings {
		if err := e.message(t.Context(), fromTheAPI, r.what, r.message); err != nil {
			t.Error(err)
		}
	}
	for _, c := range a.tap.Calls() {
		if err := e.call(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	e.database(t, a.server.DBFile)
	return e
}

// hasFailedQuery reports whether a worker answers a query with a failure, in
// this request that completes a workflow task.
func hasFailedQuery(request []byte) bool {
	var r workflowservice.RespondWorkflowTaskCompletedRequest
	if err := proto.Unmarshal(request, &r); err != nil {
		return false
	}
	for _, q := range r.GetQueryResults() {
		if q.GetResultType() == enumspb.QUERY_RESULT_TYPE_FAILED {
			return true
		}
	}
	return false
}
