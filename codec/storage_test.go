package codec_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
)

// blobs is a driver of external storage that keeps payloads in memory.
type blobs struct {
	name string
	mu   sync.Mutex
	all  []*commonpb.Payload
}

func (b *blobs) Name() string { return b.name }
func (*blobs) Type() string   { return "blobs" }

func (b *blobs) Store(_ converter.StorageDriverStoreContext, payloads []*commonpb.Payload) (claims []converter.StorageDriverClaim, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range payloads {
		claims = append(claims, converter.StorageDriverClaim{ClaimData: map[string]string{"n": fmt.Sprint(len(b.all))}})
		b.all = append(b.all, p)
	}
	return claims, nil
}

func (b *blobs) Retrieve(_ converter.StorageDriverRetrieveContext, claims []converter.StorageDriverClaim) (out []*commonpb.Payload, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range claims {
		var n int
		if _, err := fmt.Sscan(c.ClaimData["n"], &n); err != nil {
			return nil, err
		}
		out = append(out, b.all[n])
	}
	return out, nil
}

// picks is a selector that records the payloads that it is called for.
type picks struct {
	driver  converter.StorageDriver
	err     error
	mu      sync.Mutex
	offered []*commonpb.Payload
}

func (s *picks) SelectDriver(_ converter.StorageDriverSelectContext, p *commonpb.Payload) (converter.StorageDriver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = append(s.offered, p)
	return s.driver, s.err
}

// The SDK stores payloads before the guard sees them: nothing in plaintext may be stored.
func TestExternalStorageHoldsOnlySealedPayloads(t *testing.T) {
	other := &blobs{name: "other"}
	for name, tc := range map[string]struct {
		options func(b *blobs) converter.ExternalStorage
		stored  bool
	}{
		"one driver": {func(b *blobs) converter.ExternalStorage {
			return converter.ExternalStorage{Drivers: []converter.StorageDriver{b}}
		}, true},
		"a selector":   {func(b *blobs) converter.ExternalStorage { return selecting(&picks{driver: b}, other, b) }, true},
		"kept in line": {func(b *blobs) converter.ExternalStorage { return selecting(&picks{}, other, b) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCodec(t, headersPolicy)
			r, b := startRecorder(t), &blobs{name: "blobs"}
			cl := dial(t, c, r, func(o *client.Options) {
				o.ContextPropagators = []workflow.ContextPropagator{tenantHeader{}}
				o.ExternalStorage = tc.options(b)
				o.ExternalStorage.PayloadSizeThreshold = 1
			})
			if err := start(cl, map[string]any{"m": "CANARY memo"}, "CANARY input"); err != nil {
				t.Fatal(err)
			}
			req := take[*workflowservice.StartWorkflowExecutionRequest](r)[0]
			header := req.GetHeader().GetFields()["tenant"]
			if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "headers"}, []*commonpb.Payload{header})[0]; d.Err != nil || string(d.Payload.GetData()) != `"CANARY header"` {
				t.Errorf("the header is %v, %v", header, d.Err)
			}
			if strings.Contains(req.String(), "CANARY") {
				t.Errorf("plaintext on the wire: %s", req)
			}
			if tc.stored == codec.ClaimsSealed(req.GetInput().GetPayloads()[0]) {
				t.Errorf("the input is %v", req.GetInput())
			}
			if tc.stored != (len(b.all) > 0) || len(other.all) > 0 {
				t.Errorf("%d blobs, %d elsewhere", len(b.all), len(other.all))
			}
			for _, p := range b.all {
				if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "headers"}, []*commonpb.Payload{p})[0]; !d.Sealed || d.Err != nil {
					t.Errorf("stored: %v, %v", p, d.Err)
				}
			}
		})
	}
}

func selecting(s converter.StorageDriverSelector, drivers ...converter.StorageDriver) converter.ExternalStorage {
	return converter.ExternalStorage{Drivers: drivers, DriverSelector: s}
}

// A header that the rule does not seal is refused, however large it is.
func TestLargePlaintextHeaderIsRefused(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r, b := startRecorder(t), &blobs{name: "blobs"}
	s := &picks{driver: b}
	cl := dial(t, c, r, func(o *client.Options) {
		o.Namespace = "other"
		o.ContextPropagators = []workflow.ContextPropagator{tenantHeader{}}
		o.ExternalStorage = selecting(s, b)
		o.ExternalStorage.PayloadSizeThreshold = 1
	})
	if err := start(cl, nil); err == nil || !strings.Contains(err.Error(), "sealHeaders: true") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("got %v", err)
	}
	for _, p := range append(s.offered, b.all...) {
		if !codec.ClaimsSealed(p) {
			t.Errorf("plaintext reached the storage: %v", p)
		}
	}
	if n := len(take[*workflowservice.StartWorkflowExecutionRequest](r)); n != 0 {
		t.Errorf("%d requests left", n)
	}
}

// If a selector fails, or selects a driver that is not in the list, the request fails.
func TestExternalStorageSelectorFails(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	r, b := startRecorder(t), &blobs{name: "blobs"}
	for want, s := range map[string]*picks{"unregistered": {driver: &blobs{name: "foreign"}}, "cannot select": {err: errors.New("cannot select")}} {
		cl := dial(t, c, r, func(o *client.Options) {
			o.ExternalStorage = selecting(s, b)
			o.ExternalStorage.PayloadSizeThreshold = 1
		})
		if err := start(cl, nil, "CANARY"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// The SDK refuses several drivers without a selector, with and without the plugin.
func TestDriversWithoutASelector(t *testing.T) {
	c, _ := newCodec(t, headersPolicy)
	options := client.Options{ExternalStorage: converter.ExternalStorage{Drivers: []converter.StorageDriver{&blobs{name: "a"}, &blobs{name: "b"}}}}
	if err := codec.NewPlugin(c).ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &options}); err != nil || options.ExternalStorage.DriverSelector != nil {
		t.Errorf("the options have selector %v, %v", options.ExternalStorage.DriverSelector, err)
	}
}

// The server names the blobs to retrieve: a plaintext blob must not reach a reader in a
// namespace that requires payloads to be sealed, in a memo, a marker or a result.
func TestPlaintextFromExternalStorage(t *testing.T) {
	for rule, refused := range map[string]bool{"": false, ", requireSealed: true": true} {
		t.Run(rule, func(t *testing.T) {
			c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a]`+rule+`}]}`)
			b := &blobs{name: "blobs", all: []*commonpb.Payload{encode(t, c, "headers", payload(t, "x"))[0], payload(t, "CANARY")}}
			options := client.Options{Namespace: "headers", ExternalStorage: converter.ExternalStorage{Drivers: []converter.StorageDriver{b}}}
			if err := codec.NewPlugin(c).ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &options}); err != nil {
				t.Fatal(err)
			}
			driver := options.ExternalStorage.Drivers[0]
			claim := func(n string) []converter.StorageDriverClaim {
				return []converter.StorageDriverClaim{{ClaimData: map[string]string{"n": n}}}
			}
			if got, err := driver.Retrieve(converter.StorageDriverRetrieveContext{Context: t.Context()}, claim("0")); err != nil || len(got) != 1 || got[0] != b.all[0] {
				t.Errorf("a sealed blob: %v, %v", got, err)
			}
			if got, err := driver.Retrieve(converter.StorageDriverRetrieveContext{Context: t.Context()}, claim("x")); err == nil || got != nil {
				t.Errorf("a blob that is not there: %v, %v", got, err)
			}
			got, err := driver.Retrieve(converter.StorageDriverRetrieveContext{Context: t.Context()}, claim("1"))
			if refused != (err != nil) || refused != (got == nil) {
				t.Errorf("a blob in plaintext: %v, %v", got, err)
			}
			if refused && (kms.ClassOf(err) != kms.Denied || !strings.Contains(err.Error(), "a payload in external storage is not sealed") || strings.Contains(err.Error(), "CANARY")) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

// The SDK quotes the driver that a reference names, which the server may have made up.
func TestReferenceToAnotherDriver(t *testing.T) {
	for name, p := range map[string]*commonpb.Payload{
		"another driver":   storageReference(`{"driverName":"CANARY","claimData":{"n":"0"}}`),
		"no JSON":          storageReference(`CANARY`),
		"of an older SDK":  {Metadata: map[string][]byte{"encoding": []byte("json/external-storage-reference")}, Data: []byte(`{"driver_name":"CANARY"}`)},
		"older, no object": {Metadata: map[string][]byte{"encoding": []byte("json/external-storage-reference")}, Data: []byte(`"CANARY"`)},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCodec(t, `{keys: {a: {uri: "fake://a"}}, seal: [{match: {namespace: "*"}, keys: [a], requireSealed: true}]}`)
			r, b := startRecorder(t), &blobs{name: "blobs", all: []*commonpb.Payload{encode(t, c, "headers", payload(t, "x"))[0]}}
			result := func(p *commonpb.Payload) {
				r.history = &historypb.History{Events: []*historypb.HistoryEvent{{EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
					WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: &commonpb.Payloads{Payloads: []*commonpb.Payload{p}}},
				}}}}
			}
			cl := dial(t, c, r, func(o *client.Options) {
				o.ExternalStorage = converter.ExternalStorage{Drivers: []converter.StorageDriver{b}}
			})
			var got string
			result(p)
			err := cl.GetWorkflow(t.Context(), "w", "run").Get(t.Context(), &got)
			if kms.ClassOf(err) != kms.Denied || strings.Contains(err.Error(), "CANARY") || got != "" {
				t.Errorf("read %q, %v", got, err)
			}
			result(storageReference(`{"driverName":"blobs","claimData":{"n":"0"}}`))
			if err := cl.GetWorkflow(t.Context(), "w", "run").Get(t.Context(), &got); err != nil || got != "x" {
				t.Errorf("a reference of our own: %q, %v", got, err)
			}
		})
	}
}
