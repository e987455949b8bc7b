// Package memtest looks for secrets in the memory of a running process, as somebody
// would who has its core dump.
//
// A test starts its own program once more (Start): a child, in which only one role
// runs (Run, in TestMain). The role uses keys, and stops where the test is to look
// (Child.Stop). The test reads the child's memory while it is stopped
// (Process.Scan). So what is looked for is in the memory of the test, where it finds
// nobody, and not in that of the child: the two tell each other of secrets only
// masked with Mask, and a KMS that the child asks does well to run in the test.
//
// Only tests import it. Reading another process's memory is for Linux; elsewhere
// there is only what a TestMain needs.
package memtest
