package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// impatient has Rotate look often and give up late, or early.
func impatient(key *awskms.Key) { awskms.SetRotationTimes(key, time.Minute, time.Millisecond) }

func mustVersions(t testing.TB, key *awskms.Key) []kms.Version {
	t.Helper()
	versions, err := key.Versions(t.Context())
	if err != nil {
		t.Fatalf("Versions: %v", err)
	}
	return versions
}

func TestRotate(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	impatient(key)
	first := mustVersions(t, key)
	if len(first) != 1 || !first[0].Primary || first[0].State != kms.VersionEnabled || first[0].Created.IsZero() || len(first[0].ID) != 64 {
		t.Fatalf("a new key has the versions %+v", first)
	}
	plain := dataKeys(1)
	old := mustWrap(t, key, plain, nil)
	second, err := key.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := mustVersions(t, key)
	first[0].Primary = false
	if diff := cmp.Diff([]kms.Version{first[0], second}, got); diff != "" || !second.Primary || second.ID == first[0].ID || second.Created.Location() != time.UTC {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	mustUnwrap(t, key, old, nil, plain)
	mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)

	// At AWS it takes its time.
	s.SetRotationTime(20 * time.Millisecond)
	third, err := key.Rotate(t.Context())
	if err != nil || third.ID == second.ID || !third.Primary {
		t.Fatalf("%+v, %v", third, err)
	}
	made.Rotate() // automatically
	if got := mustVersions(t, key); len(got) != 4 || got[2].ID != third.ID || got[2].Primary || !got[3].Primary {
		t.Errorf("%+v", got)
	}
}

func TestRotationTakesTooLong(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	awskms.SetRotationTimes(key, 20*time.Millisecond, time.Millisecond)
	s.SetRotationTime(time.Hour)
	_, err := key.Rotate(t.Context())
	wantError(t, err, kms.Unavailable, "before you rotate again")
	if err == nil || !strings.Contains(err.Error(), "rotation was begun") {
		t.Errorf("%v", err)
	}
	_, err = key.Rotate(t.Context())
	wantError(t, err, kms.Unavailable, "wait for that rotation")

	// A caller that does not want to wait for it.
	other, _ := newKey(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Script("ListKeyRotations", awsserver.Fault{Stall: true})
	done := make(chan error)
	go func() {
		_, err := other.Rotate(ctx)
		done <- err
	}()
	for s.Requests()["ListKeyRotations"] == 0 {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	err = <-done
	wantError(t, err, kms.Canceled, "before you rotate again")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// After a lost answer no second request is sent: AWS may have rotated, and counts.
func TestRotateIsSentOnce(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	impatient(key)
	mustVersions(t, key) // there is a connection to reuse
	s.ResetRequests()
	for i, fault := range []awsserver.Fault{{Reset: true}, {ResetInBody: true}, {Raw: []byte("<html>")}} {
		s.Script("RotateKeyOnDemand", fault)
		_, err := key.Rotate(t.Context())
		wantError(t, err, kms.Unavailable, "before you rotate again")
		if n := s.Requests()["RotateKeyOnDemand"]; n != i+1 {
			t.Errorf("%d requests after %d attempts", n, i+1)
		}
	}
	if n := len(mustVersions(t, key)); n != 2 {
		t.Errorf("%d versions, want 2: one answer was lost after the rotation", n)
	}
	// While it waits, an unlucky request is no reason to give up.
	s.Script("ListKeyRotations", awsserver.Outage(), awsserver.Throttle())
	if _, err := key.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
	// To be denied is one.
	s.Deny("kms:ListKeyRotations", nil)
	_, err := key.Rotate(t.Context())
	wantError(t, err, kms.Denied, "kms:ListKeyRotations")
	if err == nil || !strings.Contains(err.Error(), "rotation was begun") {
		t.Errorf("%v", err)
	}
}

func TestRotateRefused(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	impatient(key)
	s.Deny("kms:RotateKeyOnDemand", made)
	_, err := key.Rotate(t.Context())
	wantError(t, err, kms.Denied, "grant kms:RotateKeyOnDemand on the key to this identity (aws sts get-caller-identity); only identities of the key's own account")
	s.Undeny("kms:RotateKeyOnDemand", made)
	s.Deny("kms:DescribeKey", made)
	_, err = key.Rotate(t.Context())
	wantError(t, err, kms.Denied, "grant kms:DescribeKey")
	if n := s.Requests()["RotateKeyOnDemand"]; n != 1 {
		t.Errorf("rotated without knowing what was before: %d requests", n)
	}
	s.Undeny("kms:DescribeKey", made)
	made.SetState(awsserver.Disabled)
	_, err = key.Rotate(t.Context())
	wantError(t, err, kms.Disabled, "enable-key")
	made.SetState(awsserver.Enabled)

	for range 25 {
		if _, err := key.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, err = key.Rotate(t.Context())
	wantError(t, err, kms.Invalid, "enable-key-rotation")
	if err == nil || !strings.Contains(err.Error(), "25 times") {
		t.Errorf("%v", err)
	}

	primary := createKey(t, s, awsserver.KeySpec{MultiRegion: true})
	replica, err := s.Replicate(primary, otherRegion)
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]*awsserver.Key{
		"a replica": replica, "a custom key store": createKey(t, s, awsserver.KeySpec{CustomKeyStore: true}),
		"imported": createKey(t, s, awsserver.KeySpec{ImportedUntil: time.Now().Add(time.Hour)}),
	} {
		_, err := open(t, s, awskms.Config{Key: of.ARN()}).Rotate(t.Context())
		wantError(t, err, kms.Invalid, "rotate the primary")
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: ErrUnsupported is not in the chain of %v", name, err)
		}
	}
	over := open(t, s, awskms.Config{Key: primary.ARN()})
	impatient(over)
	if _, err := over.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(mustVersions(t, open(t, s, awskms.Config{Key: replica.ARN()}))); n != 2 {
		t.Errorf("the replica has %d versions", n)
	}
}

func TestVersions(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	for range 120 { // more than two pages
		made.Rotate()
	}
	s.ResetRequests()
	versions := mustVersions(t, key)
	wantRequests(t, s, map[string]int{"DescribeKey": 1, "ListKeyRotations": 3})
	ids := map[string]bool{}
	for i, v := range versions {
		ids[v.ID] = true
		if v.Primary != (i == 120) || i > 0 && v.Created.Before(versions[i-1].Created) {
			t.Errorf("version %d is %+v", i, v)
		}
	}
	if len(ids) != 121 {
		t.Errorf("%d versions", len(ids))
	}
	for state, want := range map[string]kms.VersionState{
		awsserver.Enabled: kms.VersionEnabled, awsserver.Disabled: kms.VersionDisabled, awsserver.PendingDeletion: kms.VersionPendingDestruction,
		awsserver.PendingImport: kms.VersionUnavailable, awsserver.Unavailable: kms.VersionUnavailable, "Creating": kms.VersionUnavailable, "Updating": kms.VersionEnabled,
	} {
		made.SetState(state)
		if got := mustVersions(t, key)[7].State; got != want {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
	stored := open(t, s, awskms.Config{Key: createKey(t, s, awsserver.KeySpec{CustomKeyStore: true}).ARN()})
	if got := mustVersions(t, stored); len(got) != 1 || !got[0].Primary || !strings.HasSuffix(stored.ID(), got[0].ID) {
		t.Errorf("a key that does not rotate has the versions %+v", got)
	}

	made.SetState(awsserver.Enabled)
	s.Deny("kms:ListKeyRotations", made)
	_, err := key.Versions(t.Context())
	wantError(t, err, kms.Denied, "kms:ListKeyRotations")
	for name, body := range map[string]string{
		"no end":    `{"Rotations":[],"Truncated":true,"NextMarker":"x"}`,
		"no marker": `{"Rotations":[],"Truncated":true}`,
	} {
		s.SetFault("ListKeyRotations", awsserver.Fault{Raw: []byte(body)})
		_, err = key.Versions(t.Context())
		wantError(t, err, kms.Internal, "endpoint")
		if n := s.Requests()["ListKeyRotations"]; n > 200 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// Imported material that waits, and material that is gone, as AWS documents it.
func TestVersionsOfImportedMaterial(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	s.SetFault("ListKeyRotations", awsserver.Fault{Raw: []byte(`{"Truncated":false,"Rotations":[
		{"KeyMaterialId":"waits","KeyMaterialState":"PENDING_ROTATION","ImportState":"IMPORTED"},
		{"KeyMaterialId":"current","KeyMaterialState":"CURRENT","ImportState":"IMPORTED","RotationDate":4000000000},
		{"KeyMaterialId":"gone","KeyMaterialState":"NON_CURRENT","ImportState":"PENDING_IMPORT"},
		{"KeyMaterialId":"elsewhere","KeyMaterialState":"PENDING_MULTI_REGION_IMPORT_AND_ROTATION"}]}`)})
	var got []string
	for _, v := range mustVersions(t, key) {
		got = append(got, fmt.Sprintf("%s %v %v", v.ID, v.State, v.Primary))
	}
	want := []string{"gone unavailable false", "current enabled true", "waits unavailable false", "elsewhere unavailable false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}

func TestDisableAndDestroy(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	plain := dataKeys(1)
	wrapped := mustWrap(t, key, plain, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(key.Disable(t.Context(), ""))
	wantError(t, unwrapError(t, key, wrapped[0]), kms.Disabled, "enable-key")
	must(key.Disable(t.Context(), ""))
	must(key.Enable(t.Context(), ""))
	mustUnwrap(t, key, wrapped, nil, plain)

	for wait, days := range map[time.Duration]int{0: 30, 7 * 24 * time.Hour: 7, 30 * 24 * time.Hour: 30} {
		at, err := key.Destroy(t.Context(), "", wait)
		must(err)
		if off := time.Until(at) - time.Duration(days)*24*time.Hour; off.Abs() > 2*time.Hour || at.Location() != time.UTC { // two hours: a change to or from summer time
			t.Errorf("a wait of %v ends at %v", wait, at)
		}
		v := mustVersions(t, key)[0]
		if v.State != kms.VersionPendingDestruction || !v.DestroyAt.Equal(at) {
			t.Errorf("%+v", v)
		}
		wantError(t, unwrapError(t, key, wrapped[0]), kms.Disabled, "cancel-key-deletion")
		wantError(t, key.Enable(t.Context(), ""), kms.Disabled, "cancel-key-deletion")
		_, err = key.Destroy(t.Context(), "", 0)
		wantError(t, err, kms.Disabled, "cancel-key-deletion")
		must(key.Restore(t.Context(), ""))
		wantError(t, unwrapError(t, key, wrapped[0]), kms.Disabled, "enable-key")
		wantError(t, key.Restore(t.Context(), ""), kms.Disabled, "describe-key")
		must(key.Enable(t.Context(), ""))
		mustUnwrap(t, key, wrapped, nil, plain)
	}
	s.ResetRequests()
	for _, wait := range []time.Duration{-1, 1, time.Hour, 6 * 24 * time.Hour, 31 * 24 * time.Hour, 7*24*time.Hour + 1} {
		_, err := key.Destroy(t.Context(), "", wait)
		wantError(t, err, kms.Invalid, "7 (168h) to 30 (720h)")
	}
	for _, err := range []error{
		key.Disable(t.Context(), "1"), key.Enable(t.Context(), "1"), key.Restore(t.Context(), "1"),
		func() error { _, err := key.Destroy(t.Context(), "1", 0); return err }(),
	} {
		wantError(t, err, kms.Invalid, "rewrap")
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("ErrUnsupported is not in the chain of %v", err)
		}
	}
	wantRequests(t, s, map[string]int{})

	for action, do := range map[string]func() error{
		"kms:DisableKey":          func() error { return key.Disable(t.Context(), "") },
		"kms:EnableKey":           func() error { return key.Enable(t.Context(), "") },
		"kms:CancelKeyDeletion":   func() error { return key.Restore(t.Context(), "") },
		"kms:ScheduleKeyDeletion": func() error { _, err := key.Destroy(t.Context(), "", 0); return err },
	} {
		s.Deny(action, nil)
		wantError(t, do(), kms.Denied, "grant "+action)
		s.Undeny(action, nil)
		s.SetFault(awsserver.AllOperations, awsserver.Fault{Reset: true})
		wantError(t, do(), kms.Unavailable, "network")
		s.SetFault(awsserver.AllOperations, awsserver.Fault{})
	}

	// The primary of a multi-Region key waits for its replicas, for an unknown time.
	primary := createKey(t, s, awsserver.KeySpec{MultiRegion: true})
	if _, err := s.Replicate(primary, otherRegion); err != nil {
		t.Fatal(err)
	}
	multi := open(t, s, awskms.Config{Key: primary.ARN()})
	at, err := multi.Destroy(t.Context(), "", 0)
	must(err)
	if v := mustVersions(t, multi)[0]; !at.IsZero() || v.State != kms.VersionPendingDestruction || !v.DestroyAt.IsZero() {
		t.Errorf("%v, %+v", at, v)
	}
	must(multi.Restore(t.Context(), ""))
}
