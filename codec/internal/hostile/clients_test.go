package hostile

import (
	historypb "go.temporal.io/api/history/v1"
)

func (l *lane) clientScenes(n int) {}

func (l *lane) historyScenes(n int, kind, id string, h *historypb.History) {}
