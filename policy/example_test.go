package policy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/waxseal/waxseal/policy"
)

const file = `
keys:
  payments: {uri: "awskms:///alias/payments?region=eu-west-1"}
  recovery: {uri: "hashivault://transit/recovery"}
  tenant:   {uri: "hashivault://transit/tenant-{namespace}"}
seal:
  - match: {namespace: "payments-*", activityType: "Charge*"}
    keys: [payments, recovery]
    dataKey: {maxPayloads: 1000, maxAge: 5m}
    accept: ["billing-*"]
  - match: {namespace: "*"}
    keys: [tenant]
`

func ExampleParse() {
	p, err := policy.Parse("waxseal.yaml", []byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(p.Keys), "keys,", len(p.Seal), "rules")
	// Output: 3 keys, 2 rules
}

// An error says where, shows the place, and advises.
func ExampleParse_error() {
	_, err := policy.Parse("waxseal.yaml", []byte(`keys:
  main: {uri: "hashivault://transit/main"}
seal:
  - match: {namespace: "payments-*", activitytype: "Charge*"}
    keys: [main]
`))
	fmt.Println(err)
	if e, ok := errors.AsType[*policy.Error](err); ok {
		fmt.Println("hint:", e.Hint())
	}
	// Output:
	// policy: waxseal.yaml:4:38: unknown field "activitytype" in match of rule 1; did you mean "activityType"?
	//    4 |   - match: {namespace: "payments-*", activitytype: "Charge*"}
	//      |                                      ^
	// hint: match has these fields: namespace, workflowType, activityType, taskQueue
}

func ExampleLoad() {
	dir, err := os.MkdirTemp("", "waxseal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, "waxseal.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	p, err := policy.Load(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Seal[0].Keys, p.Seal[0].DataKey.MaxPayloads)
	// Output: [payments recovery] 1000
}

func ExamplePolicy_SealRule() {
	p, err := policy.Parse("waxseal.yaml", []byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, facts := range []policy.Facts{
		{Namespace: "payments-eu", ActivityType: "ChargeCard"},
		{Namespace: "payments-eu"}, // where the activity type is not known
	} {
		rule, err := p.SealRule(facts)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("rule", rule.Index+1, "on line", rule.Line, rule.Keys)
	}
	// Output:
	// rule 1 on line 7 [payments recovery]
	// rule 2 on line 11 [tenant]
}

func ExamplePolicy_Accepts() {
	p, err := policy.Parse("waxseal.yaml", []byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Accepts("payments-eu", "payments-eu"))
	fmt.Println(p.Accepts("payments-eu", "billing-eu"))
	fmt.Println(p.Accepts("billing-eu", "payments-eu"))
	// Output:
	// true
	// true
	// false
}

func ExamplePolicy_KeyNames() {
	p, err := policy.Parse("waxseal.yaml", []byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range p.KeyNames() {
		fmt.Println(name, p.Keys[name].Templated())
	}
	// Output:
	// payments false
	// recovery false
	// tenant true
}

func ExampleKey_Expand() {
	tenant := policy.Key{Name: "tenant", URI: "hashivault://transit/tenant-{namespace}"}
	fmt.Println(tenant.Expand("payments-eu"))
	_, err := tenant.Expand("a/../b")
	fmt.Println(err)
	// Output:
	// hashivault://transit/tenant-payments-eu <nil>
	// policy: expand key "tenant" for namespace "a/../b": the namespace holds a character other than letters, digits, . _ and -
}

func ExampleDefault() {
	p := policy.Default("local:///var/lib/waxseal/keyring#default")
	rule, err := p.SealRule(policy.Facts{Namespace: "any"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rule.Keys, p.Keys["default"].URI, rule.DataKey.MaxPayloads)
	// Output: [default] local:///var/lib/waxseal/keyring#default 1
}
