// Package memtest looks for secrets in the memory of a running process, as an attacker with
// its core dump would.
//
// A test starts its own program once more (Start): a child, which runs only one role (Run,
// in TestMain). The role uses keys, and stops where the test should look (Child.Stop). The
// test reads the child's memory while it is stopped (Process.Scan). The needles are in the
// memory of the test and not in that of the child: the two exchange secrets only masked
// with Mask, and a KMS that the child calls should run in the test.
//
// Only tests import it. Reading another process's memory works on Linux; elsewhere the
// package has only what a TestMain needs.
package memtest
