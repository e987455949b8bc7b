package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// -update writes what was got into the golden files and scripts.
var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"waxseal": main})
}

// leakChecked is goleak.VerifyTestMain for testscript, which ends the process itself.
type leakChecked struct{ *testing.M }

// Run implements testscript.TestingM.
func (m leakChecked) Run() int {
	code := m.M.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			return 1
		}
	}
	return code
}
