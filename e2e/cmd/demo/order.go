package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

const taskQueue = "orders"

// Order is what a customer buys. Its content must not show to database administrators.
type Order struct {
	Customer string   `json:"customer"`
	Email    string   `json:"email"`
	Card     string   `json:"card"`
	Items    []string `json:"items"`
	Cents    int64    `json:"cents"`
}

// Receipt is what an order ends with.
type Receipt struct {
	Charge   string    `json:"charge"`
	Tracking string    `json:"tracking"`
	Paid     time.Time `json:"paid"`
}

// approval is the signal that a large order waits for.
const approval = "approve"

// PlaceOrder charges, reserves and ships. An order of 1,000 or more waits for an
// approval.
func PlaceOrder(ctx workflow.Context, o Order) (*Receipt, error) {
	state := "charging"
	if err := workflow.SetQueryHandler(ctx, "state", func() (string, error) { return state, nil }); err != nil {
		return nil, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumAttempts: 3},
	})
	r := &Receipt{}
	if err := workflow.ExecuteActivity(ctx, Charge, o.Card, o.Cents).Get(ctx, &r.Charge); err != nil {
		return nil, err
	}
	r.Paid = workflow.Now(ctx).UTC()
	if o.Cents >= 100_000 {
		state = "waiting for approval"
		var by string
		workflow.GetSignalChannel(ctx, approval).Receive(ctx, &by)
	}
	state = "shipping"
	if err := workflow.ExecuteActivity(ctx, Ship, o.Customer, o.Items).Get(ctx, &r.Tracking); err != nil {
		return nil, err
	}
	state = "done"
	return r, nil
}

// Charge charges a card. The one that ends in 0002 is always declined.
func Charge(_ context.Context, card string, _ int64) (string, error) {
	if card[len(card)-4:] == "0002" {
		return "", temporal.NewNonRetryableApplicationError("card "+card+" was declined: insufficient funds", "CardDeclined", nil)
	}
	return "ch_3QK7x2eZvKYlo2C1" + card[len(card)-4:], nil
}

// Ship hands a parcel over and returns its tracking number.
func Ship(_ context.Context, _ string, items []string) (string, error) {
	return fmt.Sprintf("JD01460000%d7731", len(items)), nil
}
