package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/httpapi"
)

// passThrough stands in for a *codec.Codec, which needs keys.
type passThrough struct{}

func (passThrough) Encode(_ context.Context, _ codec.EncodeOptions, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return payloads, nil
}

func (passThrough) Decode(_ context.Context, _ codec.DecodeOptions, payloads []*commonpb.Payload) []codec.Decoded {
	out := make([]codec.Decoded, len(payloads))
	for i, p := range payloads {
		out[i] = codec.Decoded{Payload: p}
	}
	return out
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server, err := httpapi.New(httpapi.Config{Codec: passThrough{}, DefaultNamespace: "default"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ln, err := server.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- server.Serve(ctx, ln) }()

	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+"/decode", strings.NewReader(`{"payloads":[{"data":"ImhpIg=="}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Namespace", "payments")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	fmt.Println(answer.Status, string(body), err)

	stop()
	fmt.Println(<-done)
	// Output:
	// 200 OK {"payloads":[{"data":"ImhpIg=="}]} <nil>
	// <nil>
}

func ExampleNew_refused() {
	_, err := httpapi.New(httpapi.Config{Codec: passThrough{}, AllowedOrigins: []string{"*"}})
	fmt.Println(err)
	// Output:
	// httpapi: check configuration: AllowedOrigins: "*" is not an origin as browsers write it, such as https://temporal.example.com
}

func ExampleServer_Listen() {
	server, err := httpapi.New(httpapi.Config{Codec: passThrough{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = server.Listen(context.Background(), "0.0.0.0:8081")
	fmt.Println(err)
	// Output:
	// httpapi: listen on 0.0.0.0:8081: not a loopback address, and nobody is asked who they are
}

func ExampleServer_AdminHandler() {
	server, err := httpapi.New(httpapi.Config{Codec: passThrough{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Give it a listener of its own; ServeAdmin does that with all bounds set.
	probe := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "http://localhost/livez", nil)
	answer := httptest.NewRecorder()
	server.AdminHandler().ServeHTTP(answer, probe)
	fmt.Print(answer.Code, " ", answer.Body)
	// Output:
	// 200 ok
}
