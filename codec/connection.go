package codec

import "crypto/sha256"

// connection identifies a client's connection to a server. Clients of several clusters
// may use one Codec, and nothing keeps two clusters from using the same namespaces,
// workflow IDs, run IDs and task tokens: what the Codec remembers of tasks, it
// remembers for each connection. A client made from an existing one shares its
// connection. A converter that NewDataConverter made has none: nil finds the tasks of all
// connections.
type connection struct {
	// shares is the connection of the client that this one was made from.
	shares *connection
}

// root returns the connection that requests really take.
func (c *connection) root() *connection {
	for c != nil && c.shares != nil {
		c = c.shares
	}
	return c
}

func (t *task) runKey() runKey { return runKey{t.via, t.run} }

// tokenKey is a token and the connection that it came through.
type tokenKey struct {
	via *connection
	sum [sha256.Size]byte
}

func newTokenKey(via *connection, kind string, token []byte) tokenKey {
	return tokenKey{via, sha256.Sum256(append([]byte(kind), token...))}
}

// cameThrough returns those tasks that came through a connection, all if it is nil.
func cameThrough(via *connection, all []*task) (out []*task) {
	for _, t := range all {
		if root := via.root(); root == nil || t.via == root {
			out = append(out, t)
		}
	}
	return out
}
