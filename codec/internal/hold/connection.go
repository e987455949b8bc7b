package hold

import "crypto/sha256"

// Connection identifies a client's connection to a server. Clients of several clusters may use
// one Codec, and two clusters may use the same namespaces, workflow IDs, run IDs and task
// tokens. So tasks are kept by connection. A client that is made from an existing one shares
// its connection. A converter without a client has none: nil finds the tasks of all
// connections.
type Connection struct {
	// Shares is the connection of the client that this one was made from.
	Shares *Connection
}

// Root returns the connection that requests take.
func (c *Connection) Root() *Connection {
	for c != nil && c.Shares != nil {
		c = c.Shares
	}
	return c
}

// tokenKey is a token and the connection that it came through.
type tokenKey struct {
	via *Connection
	sum [sha256.Size]byte
}

func newTokenKey(via *Connection, kind string, token []byte) tokenKey {
	return tokenKey{via, sha256.Sum256(append([]byte(kind), token...))}
}

// cameThrough returns the tasks that came through a connection; all if it is nil.
func cameThrough(via *Connection, all []*Task) (out []*Task) {
	for _, t := range all {
		if root := via.Root(); root == nil || t.Via == root {
			out = append(out, t)
		}
	}
	return out
}
