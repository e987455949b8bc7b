package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/terminal"
)

// logFlags say how to log.
type logFlags struct {
	format, level string
}

func (f *logFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "`format` of the log on standard error: text, json, or auto for text on a terminal and json elsewhere")
	cmd.Flags().StringVar(&f.level, "log-level", "info", "least important `level` that is logged: debug, info, warn or error")
	complete := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	_ = cmd.RegisterFlagCompletionFunc("log-format", complete("auto", "text", "json"))          // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("log-level", complete("debug", "info", "warn", "error")) // the flag is there
}

// logger returns the logger that the flags choose.
func (f *logFlags) logger(a *app) (*slog.Logger, error) {
	level, ok := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[f.level]
	if !ok {
		return nil, &usageError{text: fmt.Sprintf("--log-level is %q", f.level), hint: "it is one of debug, info, warn, error"}
	}
	onTerminal := terminal.Is(a.err)
	asText, ok := map[string]bool{"auto": onTerminal, "text": true, "json": false}[f.format]
	if !ok {
		return nil, &usageError{text: fmt.Sprintf("--log-format is %q", f.format), hint: "it is one of auto, text, json"}
	}
	options := &slog.HandlerOptions{Level: level}
	if onTerminal && asText {
		options.ReplaceAttr = timeOfDay // no date is needed on a terminal
	}
	if asText {
		return slog.New(slog.NewTextHandler(a.err, options)), nil
	}
	return slog.New(slog.NewJSONHandler(a.err, options)), nil
}

// timeOfDay shortens the time of a log line.
func timeOfDay(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && attr.Key == slog.TimeKey {
		return slog.String(slog.TimeKey, attr.Value.Time().Format(time.TimeOnly))
	}
	return attr
}
