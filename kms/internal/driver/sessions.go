package driver

import "sync"

// Sessions are connections that keys share: all keys with equal settings S use one
// session C, which ends when the last of them is closed. Make it with NewSessions.
// It prints as its type, because settings may hold credentials.
type Sessions[S comparable, C any] struct {
	end func(C) error

	mu   sync.Mutex
	open map[S]*session[C]
}

type session[C any] struct {
	conn C
	keys int
}

// NewSessions returns Sessions that end closes.
func NewSessions[S comparable, C any](end func(C) error) *Sessions[S, C] {
	return &Sessions[S, C]{end: end, open: make(map[S]*session[C])}
}

// Use returns the session for settings, which dial makes if there is none, and what
// gives it up, to be called once. It holds the lock while it dials: other keys with these settings wait for the same.
func (s *Sessions[S, C]) Use(settings S, dial func() (C, error)) (conn C, release func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shared, ok := s.open[settings]
	if !ok {
		if conn, err = dial(); err != nil {
			return conn, nil, err
		}
		shared = &session[C]{conn: conn}
		s.open[settings] = shared
	}
	shared.keys++
	return shared.conn, func() error { return s.release(settings, shared) }, nil
}

func (s *Sessions[S, C]) release(settings S, shared *session[C]) error {
	s.mu.Lock()
	shared.keys--
	last := shared.keys == 0
	if last {
		delete(s.open, settings)
	}
	s.mu.Unlock()
	if last {
		return s.end(shared.conn)
	}
	return nil
}

// String keeps settings from being printed.
func (s *Sessions[S, C]) String() string { return "driver.Sessions" }

// GoString returns the same.
func (s *Sessions[S, C]) GoString() string { return s.String() }
