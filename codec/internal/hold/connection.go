package hold

import "crypto/sha256"

// connection identifies a client's connection to a server. Clients of several clusters
// may use one Codec, and nothing keeps two clusters from using the same namespaces,
// workflow IDs, run IDs and task tokens: what the Codec remembers of tasks, it
// remembers for each connection. A client made from an existing one shares its
// connection. A converter that NewDataConverter made has none: nil finds the tasks of all
// connections.
type Connection struct {
	// shares is the connection of the client that this one was made from.
	Shares *Connection
}

// root returns the connection that requests really take.
func (c *Connection) Root() *Connection {
	for c != nil && c.Shares != nil {
		c = c.Shares
	}
	return c
}

func (t *Task) RunKey() RunKey { return RunKey{t.Via, t.Run} }

// tokenKey is a token and the connection that it came through.
type tokenKey struct {
	via *Connection
	sum [sha256.Size]byte
}

func newTokenKey(via *Connection, kind string, token []byte) tokenKey {
	return tokenKey{via, sha256.Sum256(append([]byte(kind), token...))}
}

// cameThrough returns those tasks that came through a connection, all if it is nil.
func cameThrough(via *Connection, all []*Task) (out []*Task) {
	for _, t := range all {
		if root := via.Root(); root == nil || t.Via == root {
			out = append(out, t)
		}
	}
	return out
}
