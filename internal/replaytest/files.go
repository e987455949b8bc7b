package replaytest

import (
	"bytes"
	"fmt"

	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// Names of the files of a corpus, beside one folder for each namespace.
const (
	KeyringFile = "keyring"    // of package localkms
	SumsFile    = "SHA256SUMS" // of every other file but the README, as sha256sum writes them
)

// Summed reports whether a file of a corpus has a line in SumsFile.
func Summed(name string) bool { return name != SumsFile && name != "README.md" }

// JSON returns a history as the temporal CLI and the SDK's replayer read it, one event a line.
func JSON(h *historypb.History) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("{\"events\":[\n")
	for i, e := range h.GetEvents() {
		if i > 0 {
			out.WriteString(",\n")
		}
		b, err := protojson.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("replaytest: marshal event %d: %w", e.GetEventId(), err)
		}
		out.Write(b)
	}
	out.WriteString("\n]}\n")
	return out.Bytes(), nil
}
