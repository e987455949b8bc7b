package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// awaitReady returns when the frontend knows every namespace and the Web UI,
// if there is one, serves its page; or with what was wrong when time is up.
func awaitReady(ctx context.Context, o options, p ports) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	conn, err := grpc.NewClient(address(p.frontend), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer func() { _ = conn.Close() }()
	frontend := workflowservice.NewWorkflowServiceClient(conn)
	for _, name := range o.namespaces {
		// Listing asks the namespace cache, the matching and the history
		// service: DescribeNamespace alone would answer too early.
		if err := poll(ctx, func() error {
			_, err := frontend.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: name, PageSize: 1})
			return err
		}); err != nil {
			return fmt.Errorf("wait for namespace %q: %w", name, err)
		}
	}
	if o.uiPort == noUI {
		return nil
	}
	if err := poll(ctx, func() error { return get(ctx, "http://"+address(p.ui)+"/") }); err != nil {
		return fmt.Errorf("wait for the Web UI: %w", err)
	}
	return nil
}

// poll calls try until it succeeds. Out of time it returns try's last error.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// get succeeds when url answers 200.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
