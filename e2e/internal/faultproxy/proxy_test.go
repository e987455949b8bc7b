package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a proxy before a server that answers with the path and the body.
func open(t *testing.T) *Proxy {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" ")
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(server.Close)
	p, err := Open(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func set(t *testing.T, p *Proxy, m Mode) {
	t.Helper()
	if err := p.Set(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if p.Mode() != m {
		t.Fatalf("the mode is %s, want %s", p.Mode(), m)
	}
}

func ask(ctx context.Context, t *testing.T, c *http.Client, p *Proxy) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+"/v1/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestCut(t *testing.T) {
	p, c := open(t), newClient(t)
	healthy := func() {
		t.Helper()
		if status, body, err := ask(t.Context(), t, c, p); status != http.StatusOK || body != "/v1/x body" || err != nil {
			t.Fatalf("a healthy KMS answers %d %q, %v", status, body, err)
		}
	}
	healthy()
	idle, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	healthy() // so the server has accepted the idle connection too

	set(t, p, Cut)
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an open connection gives %v, want a reset", err)
	}
	if _, _, err := ask(t.Context(), t, newClient(t), p); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection gives %v, want a refusal", err)
	}
	set(t, p, Cut)
	set(t, p, Healthy)
	healthy()
}

func TestCutEndsWhatIsUnderWay(t *testing.T) {
	p, c := open(t), newClient(t)
	set(t, p, Slow)
	sent, failed := make(chan struct{}), make(chan error, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }})
	go func() {
		_, _, err := ask(ctx, t, c, p)
		failed <- err
	}()
	<-sent
	set(t, p, Cut)
	if err := <-failed; err == nil {
		t.Error("a request survived")
	}
}

func TestSlow(t *testing.T) {
	p, c := open(t), newClient(t)
	set(t, p, Slow)
	begin := time.Now()
	if status, body, err := ask(t.Context(), t, c, p); status != http.StatusOK || body != "/v1/x body" || err != nil || time.Since(begin) < SlowBy {
		t.Errorf("answers %d %q, %v after %s", status, body, err, time.Since(begin))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := ask(ctx, t, c, p); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller with little time gets %v", err)
	}
}

func TestFlaky(t *testing.T) {
	p, c := open(t), newClient(t)
	set(t, p, Flaky)
	seen := map[int]int{}
	const asked = 1000
	for range asked {
		status, _, _ := ask(t.Context(), t, c, p)
		seen[status]++
	}
	// Go's client retries by itself after some resets.
	if bad := asked - seen[http.StatusOK]; bad < asked/20 || bad > asked*3/10 {
		t.Errorf("%d of %d failed", bad, asked)
	}
	for _, status := range []int{0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable} {
		if seen[status] == 0 {
			t.Errorf("status %d never came: %v", status, seen)
		}
	}
	if passed, failed := p.Counts(); passed != int64(seen[http.StatusOK]) || failed < asked/10 {
		t.Errorf("counted %d passed and %d failed of %v", passed, failed, seen)
	}
}

func TestThrottled(t *testing.T) {
	p, c := open(t), newClient(t)
	set(t, p, Throttled)
	seen := map[int]int{}
	begin := time.Now()
	for range 50 {
		status, _, _ := ask(t.Context(), t, c, p)
		seen[status]++
	}
	most := 1 + int(time.Since(begin)/ThrottleTo) + 1
	if seen[http.StatusOK] < 1 || seen[http.StatusOK] > most || seen[http.StatusTooManyRequests] != 50-seen[http.StatusOK] {
		t.Errorf("got %v, want at most %d answers", seen, most)
	}
}

func TestServerGone(t *testing.T) {
	p, err := Open(t.Context(), "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if status, _, err := ask(t.Context(), t, newClient(t), p); status != http.StatusBadGateway || err != nil {
		t.Errorf("answers %d, %v", status, err)
	}
}

func TestPortTaken(t *testing.T) {
	p := open(t)
	set(t, p, Cut)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*reopenEvery)
	defer cancel()
	if err := p.Set(ctx, Healthy); err == nil || p.Mode() != Cut {
		t.Errorf("got %v and mode %s", err, p.Mode())
	}
	l.Close()
	set(t, p, Healthy)
}

func TestOpenRefuses(t *testing.T) {
	for _, target := range []string{"", "127.0.0.1:80", "http://", ":"} {
		if _, err := Open(t.Context(), target); err == nil {
			t.Errorf("opened for %q", target)
		}
	}
}

func TestModeNames(t *testing.T) {
	if got := Cut.String() + " " + Mode(99).String(); got != "unreachable unknown" {
		t.Error(got)
	}
}
