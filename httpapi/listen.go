package httpapi

import (
	"context"
	"fmt"
	"net"
)

// ListenError is a refusal to listen where others than this machine could
// reach an unauthenticated server.
type ListenError struct {
	// Address is where it was to listen.
	Address string
}

// Error implements error.
func (e *ListenError) Error() string {
	return "httpapi: listen on " + e.Address + ": not a loopback address, and nobody is asked who they are"
}

// Hint says what to do next.
func (e *ListenError) Hint() string {
	return "listen on 127.0.0.1 or [::1]; to let whoever reaches the port open payloads, say so with InsecureListenAnywhere"
}

// Listen listens on a TCP address such as "127.0.0.1:8081". One that is not on
// loopback gives a *ListenError, before its port is opened, unless the Server
// was made with InsecureListenAnywhere. Any name but localhost must be an IP
// address then.
func (s *Server) Listen(ctx context.Context, address string) (net.Listener, error) {
	if !s.anywhere {
		if host, _, err := net.SplitHostPort(address); err == nil && !loopbackHost(host) {
			return nil, &ListenError{Address: address}
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("httpapi: listen: %w", err)
	}
	if err := s.checkListener(ln.Addr()); err != nil {
		_ = ln.Close() // the refusal is what matters
		return nil, err
	}
	return ln, nil
}

// checkListener refuses what machines other than this one could reach. A Unix
// socket is guarded by its file's mode.
func (s *Server) checkListener(addr net.Addr) error {
	if s.anywhere {
		return nil
	}
	switch a := addr.(type) {
	case *net.TCPAddr:
		if a.IP.IsLoopback() {
			return nil
		}
	case *net.UnixAddr:
		return nil
	}
	return &ListenError{Address: addr.String()}
}
