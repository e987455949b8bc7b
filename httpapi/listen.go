package httpapi

import (
	"context"
	"fmt"
	"net"
)

// ListenError is a refusal to listen where other machines could reach an unauthenticated server.
type ListenError struct {
	// Address is the address that was refused.
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

// Listen listens on a TCP address such as "127.0.0.1:8081". Unless Config.InsecureListenAnywhere is set, the host must be
// localhost or a loopback IP address, or Listen returns a *ListenError before it opens the port.
func (s *Server) Listen(ctx context.Context, address string) (net.Listener, error) {
	if !s.config.InsecureListenAnywhere {
		if host, _, err := net.SplitHostPort(address); err == nil && !loopbackHost(host) {
			return nil, &ListenError{Address: address}
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("httpapi: listen: %w", err)
	}
	if err := s.checkListener(ln.Addr()); err != nil {
		_ = ln.Close() // the refusal matters
		return nil, err
	}
	return ln, nil
}

// checkListener refuses an address that other machines can reach. The mode of its file guards a Unix socket.
func (s *Server) checkListener(addr net.Addr) error {
	if s.config.InsecureListenAnywhere {
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
