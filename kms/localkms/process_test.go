//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// The variables that control the children of a test.
const (
	childRole  = "LOCALKMS_TEST_ROLE"
	childIndex = "LOCALKMS_TEST_INDEX"
)

const (
	children       = 6
	childRotations = 8
)

// runChild is a process that shares a keyring with its siblings.
func runChild(role string) error {
	ctx := context.Background()
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	path, index := filepath.Join(folder, "waxseal", "keyring"), os.Getenv(childIndex)
	// All start when the parent closes their input.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	r, err := OpenKeyring(path)
	if err != nil {
		return err
	}
	shared, err := r.Open(ctx, "shared") // the file, the folder and the key do not exist yet
	if err != nil {
		return err
	}
	if err := roundTrip(ctx, shared); err != nil { // its first Wrap makes the key, in one of the processes
		return err
	}
	switch role {
	case "share":
		if _, err := r.Create("own-" + index); err != nil {
			return err
		}
		for range childRotations {
			if _, err := r.Rotate("shared"); err != nil {
				return err
			}
			if err := roundTrip(ctx, shared); err != nil {
				return err
			}
		}
		_, err := r.Create("shared")
		if !errors.Is(err, ErrExists) {
			return fmt.Errorf("creating an existing key: %w", err)
		}
		return nil
	case "rotate forever":
		for {
			version, err := r.Rotate("shared")
			if err != nil {
				return err
			}
			fmt.Println(version)
		}
	default:
		return fmt.Errorf("unknown role %q", role)
	}
}

// roundTrip wraps and unwraps once.
func roundTrip(ctx context.Context, k *Key) error {
	dataKey := newSecret().bytes()
	wrapped, err := k.Wrap(ctx, [][]byte{dataKey}, nil)
	if err != nil {
		return err
	}
	got, err := k.Unwrap(ctx, wrapped, nil)
	if err != nil {
		return err
	}
	if got[0].Err != nil {
		return got[0].Err
	}
	if !bytes.Equal(got[0].DataKey, dataKey) {
		return errors.New("another data key came back")
	}
	return nil
}

// child prepares a process; it waits until stdin is closed.
func child(t *testing.T, role, path string, index int) (cmd *exec.Cmd, stdin io.Closer, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Dir = filepath.Dir(filepath.Dir(path)) // tempPath's
	cmd.Env = append(os.Environ(), childRole+"="+role, childIndex+"="+strconv.Itoa(index))
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	pipe, err := cmd.StdinPipe()
	check(t, err)
	return cmd, pipe, stderr
}

// TestProcessesShareAKeyring has several processes create the keyring, create
// keys and rotate one key at the same time, while this one uses that key.
func TestProcessesShareAKeyring(t *testing.T) {
	path := tempPath(t)
	var cmds []*exec.Cmd
	var starts []io.Closer
	var outputs []*bytes.Buffer
	for i := range children {
		cmd, start, stderr := child(t, "share", path, i)
		check(t, cmd.Start())
		cmds, starts, outputs = append(cmds, cmd), append(starts, start), append(outputs, stderr)
	}
	for _, s := range starts {
		check(t, s.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v: %s", i, err, outputs[i])
			}
		}
	}()
	shared := mustOpen(t, path, "shared")
	for running := true; running; {
		if err := roundTrip(t.Context(), shared); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}

	keys, err := mustOpenKeyring(t, path).List()
	check(t, err)
	versions := map[string]int{}
	for _, k := range keys {
		versions[k.Name] = len(k.Versions)
		if last := k.Versions[len(k.Versions)-1]; !last.Primary || last.Version != strconv.Itoa(len(k.Versions)) {
			t.Errorf("key %s: last version %+v of %d", k.Name, last, len(k.Versions))
		}
	}
	if len(keys) != 1+children || versions["shared"] != 1+children*childRotations {
		t.Errorf("keys and versions %v: something was lost", versions)
	}
	_, wrapped := wrapNew(t, shared, nil)
	if want := strconv.Itoa(1 + children*childRotations); wrapped.Version != want {
		t.Errorf("this process wraps under version %s, want %s", wrapped.Version, want)
	}
}

// TestKilledProcessLosesNothing kills a process that writes the keyring over and
// over: the file stays whole, the lock is free and nothing acknowledged is gone.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "shared")
	first, wrapped := wrapNew(t, key, nil)
	for range 5 {
		cmd, start, stderr := child(t, "rotate forever", path, 0)
		stdout, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		check(t, start.Close())
		lines := bufio.NewScanner(stdout)
		acknowledged := 0
		for range 5 {
			if !lines.Scan() {
				t.Fatalf("the process ended: %s", stderr)
			}
			acknowledged, err = strconv.Atoi(lines.Text())
			check(t, err)
		}
		check(t, cmd.Process.Kill())
		for lines.Scan() { // what it did before the signal arrived
			if n, err := strconv.Atoi(lines.Text()); err == nil { // else half a line
				acknowledged = max(acknowledged, n)
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the process was not killed")
		}

		keys, err := mustOpenKeyring(t, path).List()
		check(t, err)
		if n := len(keys[0].Versions); n < acknowledged {
			t.Errorf("%d versions, but %d were acknowledged", n, acknowledged)
		}
		mustRotate(t, path, "shared") // the lock died with the process
		wantOpens(t, key, wrapped, first)
	}
	left, err := filepath.Glob(path + "*")
	check(t, err)
	if len(left) != 2 { // the keyring and its lock
		t.Errorf("files left behind: %v", left)
	}
}
