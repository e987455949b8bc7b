package gcpkms

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// Connections returns how many connections clients have open.
func (s *Server) Connections() int {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return len(s.listener.conns)
}

// DropConnections cuts every connection: calls under way fail, and clients
// connect anew. It waits a second at most for clients to notice, so that their next
// call is not sent into the void.
func (s *Server) DropConnections() { s.listener.drop() }

// SetDown cuts every connection, and closes new ones at once without an answer, as a load
// balancer does that has no server behind it; false ends it. The address stays taken
// meanwhile.
func (s *Server) SetDown(down bool) {
	s.listener.mu.Lock()
	s.listener.down = down
	s.listener.mu.Unlock()
	if down {
		s.listener.drop()
	}
}

// AnswerInstead lets h answer at the server's address from now on, over HTTP/1.1 and over
// HTTP/2 without TLS, as a login page or a proxy on the way does; nil ends it. Every
// connection is cut first. Requests that h answers are not counted.
func (s *Server) AnswerInstead(h http.Handler) {
	var to *impostor
	if h != nil {
		to = newImpostor(h, s.listener.Addr())
	}
	s.listener.mu.Lock()
	former := s.listener.instead
	s.listener.instead = to
	s.listener.mu.Unlock()
	if to == nil && former == nil {
		return
	}
	s.listener.drop()
	if former != nil {
		former.close()
	}
}

// listener remembers connections, to be able to drop them.
type listener struct {
	net.Listener
	mu      sync.Mutex
	conns   map[string]*conn // by the client's address
	down    bool
	instead *impostor
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tracked := &conn{Conn: c, of: l, closed: make(chan struct{})}
		l.mu.Lock()
		down, instead := l.down, l.instead
		if !down {
			l.conns[c.RemoteAddr().String()] = tracked
		}
		l.mu.Unlock()
		switch {
		case down:
			_ = c.Close() // it must not be read
		case instead != nil:
			instead.take(tracked)
		default:
			return tracked, nil
		}
	}
}

func (l *listener) drop() {
	l.mu.Lock()
	doomed := slices.Collect(maps.Values(l.conns)) // not those that come meanwhile
	l.mu.Unlock()
	for _, c := range doomed {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			c.dropped.Store(true)
			_ = tcp.CloseWrite() // its client closes the other half, and then its server closes it
		}
	}
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	for _, c := range doomed {
		select {
		case <-c.closed:
		case <-timeout.C:
			timeout.Reset(0) // nor is there time for the others
			_ = c.Close()    // it is gone either way
		}
	}
}

// cut breaks the connection of a call when what comes next is half written.
func (l *listener) cut(ctx context.Context) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	l.mu.Lock()
	c := l.conns[p.Addr.String()]
	l.mu.Unlock()
	if c != nil {
		_ = grpc.SendHeader(ctx, nil) // it fails if they are out already, which is as good
		c.breaks.Store(true)
	}
}

type conn struct {
	net.Conn
	of      *listener
	breaks  atomic.Bool // at the next write
	dropped atomic.Bool
	once    sync.Once
	closed  chan struct{}
}

var errBroken = errors.New("gcpserver: connection broken on command")

func (c *conn) Write(b []byte) (int, error) {
	if !c.breaks.Load() {
		return c.Conn.Write(b)
	}
	// Less than any frame that answers something: frames of several answers may be
	// written at once.
	n, _ := c.Conn.Write(b[:min(len(b)/2, 12)]) // the connection is gone either way
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset rather than an end
	}
	_ = c.Close()
	return n, errBroken
}

func (c *conn) Close() error {
	c.of.mu.Lock()
	if addr := c.RemoteAddr().String(); c.of.conns[addr] == c {
		delete(c.of.conns, addr)
	}
	c.of.mu.Unlock()
	if c.dropped.Load() {
		// The server may close it before the client has noticed.
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, c.Conn) // it is gone either way
	}
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// impostor is an HTTP server that is handed connections. It is their listener, too.
type impostor struct {
	server *http.Server
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	served sync.WaitGroup
}

func newImpostor(h http.Handler, addr net.Addr) *impostor {
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	i := &impostor{
		server: &http.Server{Handler: h, Protocols: both, ReadHeaderTimeout: 10 * time.Second},
		addr:   addr, conns: make(chan net.Conn), closed: make(chan struct{}),
	}
	i.served.Go(func() { _ = i.server.Serve(i) }) // ends when close is called, which is no failure
	return i
}

func (i *impostor) take(c net.Conn) {
	select {
	case i.conns <- c:
	case <-i.closed:
		_ = c.Close() // its client connects anew
	}
}

func (i *impostor) close() {
	_ = i.server.Close() // calls Close, and cuts what is open
	i.served.Wait()
}

// Accept implements net.Listener.
func (i *impostor) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *impostor) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

// Addr implements net.Listener.
func (i *impostor) Addr() net.Addr { return i.addr }
