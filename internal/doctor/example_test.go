package doctor_test

import (
	"context"
	"fmt"
	"log"

	"github.com/waxseal/waxseal/internal/doctor"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// A key that is disabled.
func ExampleExamine() {
	key := kmstest.NewFake("payments")
	key.Disable()
	results, err := doctor.Examine(context.Background(), []doctor.Key{{
		Name: "payments", Namespace: "default", Context: kms.Context{"namespace": "default"},
		Open: func(context.Context) (kms.Key, error) { return key, nil },
	}}, doctor.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.Name, r.Status())
		for _, c := range r.Checks {
			if c.Status == doctor.Fail {
				fmt.Println(c.Name, c.Detail)
			}
		}
	}
	// Output:
	// payments fail
	// wraps disabled: the key is switched off
}
