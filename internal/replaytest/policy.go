package replaytest

import "strings"

// The namespaces of the stored histories. Each has a rule of its own in Policy.
const (
	Orders    = "orders"    // everything sealed, requireSealed, accepts what Billing sealed
	Billing   = "billing"   // the other side of Orders: children, signals, Nexus operations
	Claiming  = "claiming"  // requireSealed, all claims recorded
	Shared    = "shared"    // compressed, two recipients, shared data keys, plaintext allowed
	Migrating = "migrating" // plaintext from before the plugin, sealed since
)

// Namespaces lists them all.
func Namespaces() []string { return []string{Orders, Billing, Claiming, Shared, Migrating} }

// policyYAML seals in five ways; KEYRING is the keyring's URI without the name of a key.
const policyYAML = `
keys:
  orders: {uri: "KEYRING#orders"}
  billing: {uri: "KEYRING#billing"}
  spare: {uri: "KEYRING#spare"}
seal:
  - match: {namespace: orders}
    keys: [orders]
    sealHeaders: true
    requireSealed: true
    accept: [billing]
  - match: {namespace: billing}
    keys: [billing]
    sealHeaders: true
    requireSealed: true
    accept: [orders]
  - match: {namespace: claiming}
    keys: [orders]
    sealHeaders: true
    requireSealed: true
    claims: [workflowId, workflowType, activityType, taskQueue]
  - match: {namespace: shared}
    keys: [orders, spare]
    sealHeaders: true
    compression: zstd
    dataKey: {maxPayloads: 1000, maxAge: 5m}
  - match: {namespace: migrating}
    keys: [orders]
    sealHeaders: true
`

// Policy returns the policy under which the histories were recorded, over a
// keyring: a URI without "#" and the name of a key.
func Policy(keyring string) []byte {
	return []byte(strings.ReplaceAll(policyYAML, "KEYRING", keyring))
}
