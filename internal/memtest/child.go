package memtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// variable names, in the environment of a child, its role.
const variable = "WAXSEAL_TEST_MEMORY_ROLE"

// Child is what a role knows of the test that started it.
type Child struct {
	// Mask is XORed to secrets before they leave the child: see Masked.
	Mask []byte

	in  *bufio.Reader
	out *json.Encoder
}

// Run plays the role that this process was started for. It reports false if there is none;
// otherwise a TestMain has nothing more to do. The error of a role ends the process.
func Run(roles map[string]func(*Child) error) bool {
	name := os.Getenv(variable)
	if name == "" {
		return false
	}
	if err := play(name, roles); err != nil {
		fmt.Fprintf(os.Stderr, "memtest: role %s: %v\n", name, err) //nolint:forbidigo // of a process that is all test
		os.Exit(1)                                                  //nolint:forbidigo // likewise
	}
	return true
}

func play(name string, roles map[string]func(*Child) error) error {
	role, ok := roles[name]
	if !ok {
		return errors.New("there is none of this name")
	}
	c := &Child{in: bufio.NewReader(os.Stdin), out: json.NewEncoder(os.Stdout)} //nolint:forbidigo // the test's end of both
	line, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(line), c); err != nil {
		return err
	}
	return role(c)
}

// Masked returns secret, masked. Masking twice gives it back.
func (c *Child) Masked(secret []byte) []byte { return masked(secret, c.Mask) }

func masked(secret, mask []byte) []byte {
	out := make([]byte, len(secret))
	for i, b := range secret {
		out[i] = b ^ mask[i%len(mask)]
	}
	return out
}

// Stop sends v, which holds nothing secret, to the test as JSON and waits for GoOn.
func (c *Child) Stop(v any) error {
	if err := c.out.Encode(v); err != nil {
		return err
	}
	_, err := c.in.ReadString('\n')
	return err
}
