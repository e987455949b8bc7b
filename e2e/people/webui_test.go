package people

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// artifacts is the folder that keeps screenshots for inspection.
var artifacts = filepath.Join("..", "artifacts")

// browse opens a page in a real browser, waits until its text holds want, and
// returns the text. A screenshot stays in the artifacts folder.
func browse(t *testing.T, url, want, screenshot string) string {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(servers.Chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1400, 1600), chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	defer stop()
	ctx, closeTab := chromedp.NewContext(allocator)
	defer closeTab()
	// The first run starts the browser, which lives as long as its context.
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Run(ctx, chromedp.Poll[bool]("document.body && document.body.innerText.includes("+strconv.Quote(want)+")", chromedp.WithPollingTimeout(45*time.Second)))
	text, failed := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if failed != nil {
		t.Fatal(err, failed)
	}
	png, failed := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if failed != nil {
		t.Fatal(err, failed)
	}
	if err := os.MkdirAll(artifacts, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(artifacts, screenshot), png, 0o600); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("the page does not show %q: %v\n%s", want, err, text)
	}
	return text
}

func TestWebUI(t *testing.T) {
	s := newStack(t, servers.TemporalOptions{})
	// Two Web UIs on the same kind of server: one knows the codec server.
	for _, tc := range []struct {
		name, endpoint string
		decodes        bool
	}{{"with the codec server", s.endpoint, true}, {"without", "", false}} {
		t.Run(tc.name, func(t *testing.T) {
			ui := *s
			ui.temporal = servers.StartTemporal(t, servers.TemporalOptions{UI: true, UICodecEndpoint: tc.endpoint})
			ui.client = ui.dial(t, s.options())
			startWorker(t, ui.client)
			run := ui.startOrder(t, "ui-order")
			ui.approve(t, run)
			page := ui.temporal.UIURL + "/namespaces/default/workflows/ui-order/" + run.GetRunID()
			if !tc.decodes {
				text := browse(t, page+"/history", ui.storedInput(t, run)[:40], "webui-sealed.png")
				if strings.Contains(readable(text), canary) {
					t.Errorf("plaintext without a codec server:\n%s", text)
				}
				return
			}
			text := browse(t, page+"/history", canary+"-result", "webui-opened.png")
			for _, want := range []string{"-card", "-charged", "-signal"} {
				if !strings.Contains(text, canary+want) {
					t.Errorf("the history does not show %s:\n%s", want, text)
				}
			}
			if text := browse(t, page+"/memo", canary+"-memo", "webui-memo.png"); strings.Contains(text, "binary/waxseal") {
				t.Errorf("a payload is still sealed:\n%s", text)
			}
		})
	}
}

// storedInput returns the data of a workflow's first argument as the server has
// it, in base64, which is how the Web UI shows it.
func (s *stack) storedInput(t *testing.T, run client.WorkflowRun) string {
	t.Helper()
	bare := s.dial(t, client.Options{})
	first, err := bare.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(first.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()[0].GetData())
}
