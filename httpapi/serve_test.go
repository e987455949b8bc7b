package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

// running is a Server on a loopback listener.
type running struct {
	url  string
	addr string
	stop func() error // ends Serve and returns its error
}

// run serves s until the test ends or stop is called.
func run(t testing.TB, s *Server) *running {
	t.Helper()
	return runOn(t, s, func() (net.Listener, error) { return s.Listen(t.Context(), "127.0.0.1:0") }, s.Serve)
}

func runOn(t testing.TB, _ *Server, listen func() (net.Listener, error), serve func(context.Context, net.Listener) error) *running {
	t.Helper()
	ln, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- serve(ctx, ln) }()
	var once bool
	var result error
	r := &running{url: "http://" + ln.Addr().String(), addr: ln.Addr().String()}
	r.stop = func() error {
		if !once {
			once = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// dial opens a raw connection that ends with the test.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answerOn reads one answer from a raw connection.
func answerOn(t testing.TB, c net.Conn) (int, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestListenRefuses(t *testing.T) {
	s := newServer(t, Config{})
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"} {
		ln, err := s.Listen(t.Context(), address)
		var refused *ListenError
		if ln != nil || !errors.As(err, &refused) || !strings.Contains(err.Error(), address) || !strings.Contains(refused.Hint(), "InsecureListenAnywhere") {
			t.Errorf("%s: got %v, %v", address, ln, err)
		}
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:notaport"} {
		if ln, err := s.Listen(t.Context(), address); ln != nil || err == nil {
			t.Errorf("%s: got %v, %v", address, ln, err)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0"} {
		ln, err := s.Listen(t.Context(), address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_ = ln.Close()
	}
}

func TestServeRefusesListener(t *testing.T) {
	for name, serve := range map[string]func(*Server, net.Listener) error{
		"Serve":      func(s *Server, ln net.Listener) error { return s.Serve(t.Context(), ln) },
		"ServeAdmin": func(s *Server, ln net.Listener) error { return s.ServeAdmin(t.Context(), ln) },
	} {
		t.Run(name, func(t *testing.T) {
			ln := &oddListener{addr: &net.TCPAddr{IP: net.IPv4zero, Port: 1}}
			err := serve(newServer(t, Config{}), ln)
			var refused *ListenError
			if !errors.As(err, &refused) || !ln.closed {
				t.Errorf("got %v, closed: %v", err, ln.closed)
			}
		})
	}
	t.Run("another network", func(t *testing.T) {
		var refused *ListenError
		if err := newServer(t, Config{}).Serve(t.Context(), &oddListener{addr: &net.IPAddr{}}); !errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("told so in as many words", func(t *testing.T) {
		s := newServer(t, Config{InsecureListenAnywhere: true})
		err := s.Serve(t.Context(), &oddListener{addr: &net.TCPAddr{IP: net.IPv4zero, Port: 1}})
		if !errors.Is(err, errOdd) {
			t.Errorf("got %v, want the listener's own error", err)
		}
	})
}

// oddListener has an address of the test's choice and never accepts.
type oddListener struct {
	addr   net.Addr
	closed bool
}

var errOdd = errors.New("this listener does not accept")

func (l *oddListener) Accept() (net.Conn, error) { return nil, errOdd }
func (l *oddListener) Close() error              { l.closed = true; return nil }
func (l *oddListener) Addr() net.Addr            { return l.addr }

func TestServeOnUnixSocket(t *testing.T) {
	s := newServer(t, Config{})
	path := filepath.Join(t.TempDir(), "s")
	r := runOn(t, s, func() (net.Listener, error) { return new(net.ListenConfig).Listen(t.Context(), "unix", path) }, s.Serve)
	c, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(hiJSON), hiJSON)
	if status, body := answerOn(t, c); status != http.StatusOK || body != hiJSON {
		t.Errorf("got %d %s", status, body)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// The SDK's own remote codec works against the server unchanged.
func TestRemotePayloadCodec(t *testing.T) {
	r := run(t, newServer(t, Config{DefaultNamespace: "default"}))
	for _, endpoint := range []string{r.url, r.url + "/", r.url + "/payments", r.url + "/prefix/payments"} {
		t.Run(strings.TrimPrefix(endpoint, r.url), func(t *testing.T) {
			remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{Endpoint: endpoint})
			dc := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), remote)
			type order struct {
				ID    string
				Lines []int
			}
			want := order{"o-1", []int{1, 2, 3}}
			sealed, err := dc.ToPayloads(want, nil, []byte("bytes"), "text")
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range sealed.GetPayloads() {
				if got := string(p.GetMetadata()["encoding"]); got != sealedEncoding {
					t.Errorf("payload %d has encoding %q", i, got)
				}
			}
			var got order
			var null any
			var raw []byte
			var text string
			if err := dc.FromPayloads(sealed, &got, &null, &raw, &text); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got, null, string(raw), text) != fmt.Sprint(want, nil, "bytes", "text") {
				t.Errorf("got %v %v %s %s", got, null, raw, text)
			}
			for name, f := range map[string]func() (int, error){
				"encode": func() (int, error) { out, err := remote.Encode(nil); return len(out), err },
				"decode": func() (int, error) { out, err := remote.Decode(nil); return len(out), err },
			} {
				if n, err := f(); n != 0 || err != nil {
					t.Errorf("%s of nothing: %d, %v", name, n, err)
				}
			}
		})
	}
	t.Run("an error is told in full", func(t *testing.T) {
		r := run(t, newServer(t, Config{}))
		remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{Endpoint: r.url})
		_, err := remote.Encode(nil)
		if err == nil || !strings.Contains(err.Error(), "Bad Request: waxseal: the request names no namespace to seal for; send X-Namespace") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSlowHeader(t *testing.T) {
	r := run(t, newServer(t, Config{Limits: Limits{HeaderTime: 50 * time.Millisecond}}))
	c := dial(t, r.addr)
	// A header that never ends; the server must hang up on its own.
	if _, err := io.WriteString(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || strings.Contains(string(rest), "200") {
		t.Errorf("got %q, %v; want the connection closed", rest, err)
	}
}

func TestSlowBody(t *testing.T) {
	s := newServer(t, Config{Limits: Limits{ReadTime: 300 * time.Millisecond}})
	r := run(t, s)
	c := dial(t, r.addr)
	if _, err := io.WriteString(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	_, p := problemNamed(t, "body-time")
	if status, body := answerOn(t, c); status != http.StatusRequestTimeout || !strings.Contains(body, p.text) {
		t.Errorf("got %d %s", status, body)
	}
}

func TestCutBody(t *testing.T) {
	logger, logged := logTo()
	fake := &fakeCodec{}
	s := newServer(t, Config{Codec: fake, Logger: logger})
	r := run(t, s)
	c := dial(t, r.addr)
	if _, err := io.WriteString(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"payloads\":[]}"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if status, _ := answerOn(t, c); status != http.StatusBadRequest && status != statusClientGone {
		t.Errorf("got %d", status)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if len(fake.seen()) > 0 || !strings.Contains(logged.String(), "bytesIn=15") {
		t.Errorf("calls %v, log %s", fake.seen(), logged)
	}
}

func TestBodyFailures(t *testing.T) {
	for _, tc := range []struct {
		name    string
		err     error
		problem string
	}{
		{"cut", io.ErrUnexpectedEOF, "body-cut"},
		{"slow", fmt.Errorf("read: %w", context.DeadlineExceeded), "timeout"},
		{"something else", errPlain, "timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantProblem(t, serve(newServer(t, Config{}), post(t, "/decode", iotest.ErrReader(tc.err))), tc.problem)
		})
	}
}

func TestLargeBodies(t *testing.T) {
	fake := &fakeCodec{}
	r := run(t, newServer(t, Config{Codec: fake, Limits: Limits{BodyBytes: 1 << 20, HeaderBytes: 1 << 10}}))
	at := func(n int) string {
		p := data("")
		p.Data = make([]byte, (n-payloadjson.Size(nil)-100)/4*3)
		body := mustJSON(t, p)
		return body + strings.Repeat(" ", n-len(body))
	}
	_, p := problemNamed(t, "body-size")
	for _, tc := range []struct {
		name string
		body io.Reader
		want int
	}{
		{"at the limit", strings.NewReader(at(1 << 20)), http.StatusOK},
		{"at the limit, chunked", struct{ io.Reader }{strings.NewReader(at(1 << 20))}, http.StatusOK},
		{"one more", strings.NewReader(at(1<<20 + 1)), p.status},
		{"twice the limit", strings.NewReader(at(2 << 20)), p.status},
		{"twice the limit, chunked", struct{ io.Reader }{strings.NewReader(at(2 << 20))}, p.status},
		{"one more, chunked", struct{ io.Reader }{strings.NewReader(at(1<<20 + 1))}, p.status},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/decode", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			res := do(t, req)
			if res.StatusCode != tc.want || tc.want != http.StatusOK && !strings.Contains(res.Body, p.text) {
				t.Errorf("got %d %.200s", res.StatusCode, res.Body)
			}
		})
	}
	t.Run("header", func(t *testing.T) {
		res := send(t, http.MethodPost, r.url+"/decode", hiJSON, "Content-Type: application/json", "X-Large: "+strings.Repeat("x", 1<<14))
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %d", res.StatusCode)
		}
	})
}

// held starts requests that stay in the codec until released, and waits until
// they are there.
func held(t *testing.T, n int) (fake *fakeCodec, arrived chan struct{}, release func()) {
	t.Helper()
	arrived, let := make(chan struct{}, n), make(chan struct{})
	fake = &fakeCodec{before: func(ctx context.Context) {
		arrived <- struct{}{}
		select {
		case <-let:
		case <-ctx.Done():
		}
	}}
	return fake, arrived, func() { close(let) }
}

func TestConcurrencyLimit(t *testing.T) {
	fake, arrived, release := held(t, 2)
	r := run(t, newServer(t, Config{Codec: fake, Limits: Limits{Requests: 2}}))
	results := make(chan int, 2)
	for range 2 {
		go func() {
			res := send(t, http.MethodPost, r.url+"/decode", hiJSON, "Content-Type: application/json")
			results <- res.StatusCode
		}()
	}
	<-arrived
	<-arrived
	_, p := problemNamed(t, "overloaded")
	res := send(t, http.MethodPost, r.url+"/decode", hiJSON, "Content-Type: application/json")
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(res.Body, p.text) || res.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d %s with %v", res.StatusCode, res.Body, res.Header)
	}
	release()
	for range 2 {
		if status := <-results; status != http.StatusOK {
			t.Errorf("got %d", status)
		}
	}
	if res := send(t, http.MethodGet, r.url+"/", ""); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
}

func TestHeldBytesLimit(t *testing.T) {
	fake, arrived, release := held(t, 1)
	s := newServer(t, Config{Codec: fake, Limits: Limits{HeldBytes: 300_000, BodyBytes: 300_000}})
	r := run(t, s)
	large := hiJSON + strings.Repeat(" ", 200_000)
	result := make(chan int, 1)
	go func() {
		res := send(t, http.MethodPost, r.url+"/decode", large, "Content-Type: application/json")
		result <- res.StatusCode
	}()
	<-arrived
	_, p := problemNamed(t, "overfull")
	res := send(t, http.MethodPost, r.url+"/decode", large, "Content-Type: application/json")
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(res.Body, p.text) {
		t.Errorf("got %d %s", res.StatusCode, res.Body)
	}
	release()
	if status := <-result; status != http.StatusOK {
		t.Errorf("got %d", status)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if n := s.held.taken.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// A body that was announced takes memory only as it arrives.
func TestAnnouncedBodyTakesNoMemory(t *testing.T) {
	s := newServer(t, Config{Limits: Limits{HeldBytes: 32 << 20}})
	r := run(t, s)
	for range 20 {
		c := dial(t, r.addr)
		if _, err := io.WriteString(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 30000000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, func() bool { return s.held.taken.Load() == 20*firstRead })
	if res := send(t, http.MethodPost, r.url+"/decode", hiJSON, "Content-Type: application/json"); res.StatusCode != http.StatusOK {
		t.Errorf("got %d", res.StatusCode)
	}
}

// waitUntil waits for what another goroutine will bring about.
func waitUntil(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	r := run(t, newServer(t, Config{Limits: Limits{Connections: 1}}))
	first, second := dial(t, r.addr), dial(t, r.addr)
	ask := func(c net.Conn) {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	ask(first)
	if status, _ := answerOn(t, first); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
	ask(second)
	if err := second.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := second.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a second connection was served beside the first")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if status, _ := answerOn(t, second); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}

// A caller that hangs up ends the codec's work.
func TestClientHangsUp(t *testing.T) {
	fake, arrived, release := held(t, 1)
	defer release()
	logger, logged := logTo()
	r := run(t, newServer(t, Config{Codec: fake, Logger: logger}))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/decode", strings.NewReader(hiJSON))
		if err != nil {
			gone <- err
			return
		}
		req.Header.Set("Content-Type", "application/json")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err == nil {
			err = res.Body.Close()
		}
		gone <- err
	}()
	<-arrived
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitUntil(t, func() bool { return strings.Contains(logged.String(), "status=499 ") })
}

func TestStopDrains(t *testing.T) {
	fake, arrived, release := held(t, 1)
	s := newServer(t, Config{Codec: fake})
	r := run(t, s)
	result := make(chan string, 1)
	go func() {
		result <- send(t, http.MethodPost, r.url+"/decode", hiJSON, "Content-Type: application/json").Body
	}()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	waitUntil(t, func() bool { return s.accepting.stopping.Load() })
	waitUntil(t, func() bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned %v with a request in progress", err)
	default:
	}
	release()
	if body := <-result; body != hiJSON {
		t.Errorf("the request in progress got %s", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopCutsOff(t *testing.T) {
	fake, arrived, release := held(t, 1)
	defer release()
	fake.encodeErr = context.Canceled
	r := run(t, newServer(t, Config{Codec: fake, Limits: Limits{DrainTime: 20 * time.Millisecond}}))
	result := make(chan int, 1)
	go func() {
		res := send(t, http.MethodPost, r.url+"/n/encode", hiJSON, "Content-Type: application/json")
		result <- res.StatusCode
	}()
	<-arrived
	if err := r.stop(); !errors.Is(err, ErrCut) {
		t.Errorf("got %v, want ErrCut", err)
	}
	if status := <-result; status != http.StatusServiceUnavailable {
		t.Errorf("the request in progress got %d", status)
	}
}

// In the end Serve closes the connection of a peer that never completes its request.
func TestStopClosesWhatDoesNotEnd(t *testing.T) {
	s := newServer(t, Config{Limits: Limits{DrainTime: 20 * time.Millisecond}})
	r := run(t, s)
	c := dial(t, r.addr)
	if _, err := io.WriteString(c, "POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return len(s.slots) == 1 })
	if err := r.stop(); !errors.Is(err, ErrCut) {
		t.Errorf("got %v, want ErrCut", err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

func TestServeReportsListenerFailure(t *testing.T) {
	s := newServer(t, Config{})
	err := s.Serve(t.Context(), &oddListener{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	if !errors.Is(err, errOdd) || !strings.HasPrefix(err.Error(), "httpapi: serve: ") {
		t.Errorf("got %v", err)
	}
}

// No handler of ours runs for a connection that Serve has given up.
func TestTrackerClosed(t *testing.T) {
	tr := &tracker{next: http.NotFoundHandler()}
	tr.wait()
	defer func() {
		if recover() != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			t.Error("a handler began after the end")
		}
	}()
	tr.ServeHTTP(nil, nil)
}
