package gcpkms_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

// recovered calls until that works again: gRPC waits a moment before it connects anew.
func recovered(t *testing.T, call func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for err := call(); err != nil; err = call() {
		if time.Now().After(deadline) {
			t.Fatalf("still after 20 s: %v", err)
		}
		runtime.Gosched()
	}
}

// Requests wait for the latency side by side.
func TestLatency(t *testing.T) {
	s, c := start(t)
	const each = 50 * time.Millisecond
	s.SetLatency(each)
	began := time.Now()
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if _, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took < each || took > 20*each {
		t.Errorf("40 requests took %v", took)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := c.Encrypt(short, &kmspb.EncryptRequest{Name: key})
	wantCode(t, "impatient", err, codes.DeadlineExceeded)
	s.SetLatency(0)
}

func TestDateAndRetryHeader(t *testing.T) {
	s, c := start(t)
	get := func() (header, trailer metadata.MD, err error) {
		_, err = c.GetCryptoKey(t.Context(), &kmspb.GetCryptoKeyRequest{Name: key}, gax.WithGRPCOptions(grpc.Header(&header), grpc.Trailer(&trailer)))
		return header, trailer, err
	}
	header, _, err := get()
	if err != nil || len(header.Get("date")) != 0 {
		t.Errorf("date %v, error %v", header.Get("date"), err)
	}
	s.TellTime(time.Hour)
	s.Inject(gcpkms.Fault{Code: codes.ResourceExhausted, RetryHeader: "7", Times: 1})
	for _, want := range []codes.Code{codes.ResourceExhausted, codes.OK} {
		header, trailer, err := get()
		wantCode(t, "get", err, want)
		date := header.Get("date")
		if len(date) != 1 {
			t.Fatalf("%v: date %v", want, date)
		}
		at, err := http.ParseTime(date[0])
		if ahead := time.Until(at); err != nil || ahead < 59*time.Minute || ahead > time.Hour {
			t.Errorf("%v: %v ahead, error %v", want, ahead, err)
		}
		if got := trailer.Get("retry-after"); (len(got) == 1) != (want != codes.OK) {
			t.Errorf("%v: retry-after %v", want, got)
		}
	}
}

func TestBrokenAnswers(t *testing.T) {
	s, c := start(t)
	call := func() error {
		_, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key})
		return err
	}
	wantCode(t, "sound", call(), codes.OK)

	s.Inject(gcpkms.Fault{Reset: true, Times: 1})
	wantCode(t, "reset", call(), codes.Unavailable)
	recovered(t, call)

	s.Inject(gcpkms.Fault{StallAfterHeaders: true, Times: 1})
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err := c.Encrypt(short, &kmspb.EncryptRequest{Name: key})
	cancel()
	wantCode(t, "stalled", err, codes.DeadlineExceeded)

	sealed := encrypt(t, c, key, "x", "")
	s.Inject(gcpkms.Fault{Harm: gcpkms.GiantAnswer})
	_, err = c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key})
	wantCode(t, "giant", err, codes.ResourceExhausted) // by gRPC, which takes 4 MiB
	resp, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: key, Ciphertext: sealed.Ciphertext}, gax.WithGRPCOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil || len(resp.Plaintext) < 16<<20 {
		t.Errorf("%d bytes, error %v", len(resp.GetPlaintext()), err)
	}
}

func TestDown(t *testing.T) {
	s, c := start(t)
	call := func() error {
		_, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key})
		return err
	}
	wantCode(t, "up", call(), codes.OK)
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	s.SetDown(true)
	for range 3 {
		wantCode(t, "down", call(), codes.Unavailable)
	}
	if n := s.Connections(); n != 0 {
		t.Errorf("%d connections while down", n)
	}
	s.SetDown(false)
	recovered(t, call)
}

func TestAnswerInstead(t *testing.T) {
	s, c := start(t)
	call := func() error {
		_, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key})
		return err
	}
	wantCode(t, "server", call(), codes.OK)
	s.ResetCalls()
	page := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "<html>log in</html>")
		})
	}
	for httpStatus, want := range map[int]codes.Code{200: codes.Unknown, 403: codes.PermissionDenied} {
		s.AnswerInstead(page(httpStatus))
		err := call()
		for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); err = call() {
			if status.Code(err) == want {
				break
			}
			runtime.Gosched()
		}
		wantCode(t, http.StatusText(httpStatus), err, want)
		resp, err := http.Get("http://" + s.Addr() + "/") //nolint:noctx // a test on loopback
		if err != nil || resp.StatusCode != httpStatus {
			t.Fatalf("over HTTP/1.1: %v, error %v", resp, err)
		}
		resp.Body.Close()
	}
	if n := s.Calls(""); n != 0 {
		t.Errorf("%d calls were counted", n)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	s.AnswerInstead(nil)
	recovered(t, call)
	s.AnswerInstead(page(200))
	s.Close()
}

func TestGeneration(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	s.SetGenerationTime(50 * time.Millisecond)
	v, err := c.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: key})
	if err != nil || v.State != kmspb.CryptoKeyVersion_PENDING_GENERATION || v.GenerateTime != nil {
		t.Fatalf("%v, error %v", v, err)
	}
	_, err = c.Encrypt(ctx, &kmspb.EncryptRequest{Name: v.Name})
	wantCode(t, "encrypt with it", err, codes.FailedPrecondition)
	recovered(t, func() error {
		_, err := c.Encrypt(ctx, &kmspb.EncryptRequest{Name: v.Name})
		return err
	})
	if v, err = c.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: v.Name}); err != nil || v.State != kmspb.CryptoKeyVersion_ENABLED || v.GenerateTime == nil {
		t.Errorf("%v, error %v", v, err)
	}
	if err := s.SetState(key, 2, kmspb.CryptoKeyVersion_PENDING_GENERATION); err != nil {
		t.Fatal(err)
	}
	_, err = c.Encrypt(ctx, &kmspb.EncryptRequest{Name: v.Name})
	wantCode(t, "encrypt when put back", err, codes.FailedPrecondition)
}

// Keys with versions that the server does not make by itself, and their descriptions.
func TestKeysFromElsewhere(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	encryption := kmspb.CryptoKey_ENCRYPT_DECRYPT
	external := &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: kmspb.ProtectionLevel_EXTERNAL}
	next := timestamppb.New(time.Now().Add(time.Hour))
	for name, spec := range map[string]*kmspb.CryptoKey{
		"external": {Purpose: encryption, VersionTemplate: external},
		"imported": {Purpose: encryption, ImportOnly: true},
		"rotating": {
			Purpose: encryption, NextRotationTime: next,
			RotationSchedule: &kmspb.CryptoKey_RotationPeriod{RotationPeriod: durationpb.New(24 * time.Hour)},
		},
	} {
		if err := s.AddKeyLike(ring+"/cryptoKeys/"+name, spec); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]codes.Code{"external": codes.InvalidArgument, "imported": codes.FailedPrecondition, "rotating": codes.OK} {
		_, err := c.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: ring + "/cryptoKeys/" + name})
		wantCode(t, name, err, want)
	}
	_, err := c.CreateCryptoKey(ctx, &kmspb.CreateCryptoKeyRequest{Parent: ring, CryptoKeyId: "new", CryptoKey: &kmspb.CryptoKey{Purpose: encryption, VersionTemplate: external}})
	wantCode(t, "external key with a version", err, codes.InvalidArgument)
	if k, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: ring + "/cryptoKeys/imported"}); err != nil || !k.ImportOnly || k.Primary.GetImportJob() == "" {
		t.Errorf("%v, error %v", k, err)
	}
	k, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: ring + "/cryptoKeys/rotating"})
	if err != nil || k.GetRotationPeriod().AsDuration() != 24*time.Hour || !k.NextRotationTime.AsTime().Equal(next.AsTime()) {
		t.Errorf("%v, error %v", k, err)
	}
}

// Answers about keys can be of another key, and lists without end.
func TestAdminHarm(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	s.Inject(gcpkms.Fault{Harm: gcpkms.WrongKeyName})
	const wrong = ring + "/cryptoKeys/not-k"
	k, err := c.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: key})
	if err != nil || k.Name != wrong || k.Primary.Name != wrong+"/cryptoKeyVersions/1" {
		t.Errorf("%v, error %v", k, err)
	}
	v, err := c.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: first})
	if err != nil || v.Name != wrong+"/cryptoKeyVersions/1" {
		t.Errorf("%v, error %v", v, err)
	}
	list := c.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key})
	if v, err = list.Next(); err != nil || v.Name != wrong+"/cryptoKeyVersions/1" {
		t.Errorf("%v, error %v", v, err)
	}
	if _, err := list.Next(); err == nil {
		t.Error("the list goes on")
	}
	s.ClearFaults()
	s.Inject(gcpkms.Fault{Harm: gcpkms.EndlessList})
	list = c.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key})
	for range 10 {
		if v, err := list.Next(); err != nil || v.Name != first {
			t.Errorf("%v, error %v", v, err)
		}
	}
	s.ClearFaults()
	if v, err = c.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: first}); err != nil || v.Name != first {
		t.Errorf("%v, error %v", v, err)
	}
}
