package servers

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestCLI(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1") // must not reach the command
	s := StartTemporal(t, TemporalOptions{Namespaces: []string{"default", "payments"}})
	out, err := CLI(t, "operator", "namespace", "list", "--address", s.HostPort, "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var namespaces []struct{ NamespaceInfo struct{ Name string } }
	if err := json.Unmarshal(out, &namespaces); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	var names []string
	for _, n := range namespaces {
		names = append(names, n.NamespaceInfo.Name)
	}
	for _, want := range []string{"default", "payments"} {
		if !slices.Contains(names, want) {
			t.Errorf("namespaces %q lack %q", names, want)
		}
	}
}

func TestChromium(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), Chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--dump-dom", "data:text/html,<title></title><script>document.title = 6*7</script>").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "<title>42</title>") {
		t.Errorf("the page is %s", out)
	}
}
