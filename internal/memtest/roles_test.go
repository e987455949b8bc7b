package memtest

import (
	"crypto/rand"
	"errors"
	"runtime"
)

// global is where a secret lies that is on no heap.
var global [32]byte

// testRoles are what the children of these tests do. Each makes a secret, tells it
// masked, and keeps or clears it.
var testRoles = map[string]func(*Child) error{
	"heap": func(c *Child) error {
		secret := make([]byte, 32)
		rand.Read(secret)
		defer runtime.KeepAlive(secret)
		if err := c.Stop(c.Masked(secret)); err != nil {
			return err
		}
		clear(secret)
		return c.Stop(nil)
	},
	"stack": func(c *Child) error {
		var secret [32]byte
		rand.Read(secret[:])
		err := c.Stop(c.Masked(secret[:]))
		clear(secret[:])
		return errors.Join(err, c.Stop(nil))
	},
	"global": func(c *Child) error {
		rand.Read(global[:])
		err := c.Stop(c.Masked(global[:]))
		clear(global[:])
		return errors.Join(err, c.Stop(nil))
	},
	"fails": func(*Child) error { return errors.New("on purpose") },
}
