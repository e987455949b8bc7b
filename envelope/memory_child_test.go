package envelope_test

// The memory tests look for secrets in the memory of a running process, as an attacker with
// its core dump would.
//
// A test starts its own program once more (startChild): a child, which runs only one role
// (runRole, in TestMain). The role uses keys and stops where the test should look
// (child.Stop). The test reads the child's memory while the child is stopped (process.Scan).
// The needles are in the memory of the test and not in that of the child: the two exchange
// secrets only masked, and the KMS of the child knows masked keys only. Reading the memory
// of another process works on Linux; elsewhere no role exists.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// roleVariable names, in the environment of a child, its role.
const roleVariable = "WAXSEAL_TEST_MEMORY_ROLE"

// child is what a role knows of the test that started it.
type child struct {
	// Mask is XORed to secrets before they leave the child: see Masked.
	Mask []byte

	in  *bufio.Reader
	out *json.Encoder
}

// runRole plays the role that this process was started for. It reports false if there is none;
// otherwise a TestMain has nothing more to do. The error of a role ends the process.
func runRole(roles map[string]func(*child) error) bool {
	name := os.Getenv(roleVariable)
	if name == "" {
		return false
	}
	if err := playRole(name, roles); err != nil {
		fmt.Fprintf(os.Stderr, "role %s: %v\n", name, err)
		os.Exit(1)
	}
	return true
}

func playRole(name string, roles map[string]func(*child) error) error {
	role, ok := roles[name]
	if !ok {
		return errors.New("there is none of this name")
	}
	c := &child{in: bufio.NewReader(os.Stdin), out: json.NewEncoder(os.Stdout)}
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
func (c *child) Masked(secret []byte) []byte { return masked(secret, c.Mask) }

func masked(secret, mask []byte) []byte {
	out := make([]byte, len(secret))
	for i, b := range secret {
		out[i] = b ^ mask[i%len(mask)]
	}
	return out
}

// Stop sends v, which holds nothing secret, to the test as JSON and waits for GoOn.
func (c *child) Stop(v any) error {
	if err := c.out.Encode(v); err != nil {
		return err
	}
	_, err := c.in.ReadString('\n')
	return err
}
