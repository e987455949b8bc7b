package devkms

import (
	"fmt"
	"strings"
)

// Info is what "dev kms --json" prints.
type Info struct {
	// Environment is what programs need that are to use the keys.
	Environment map[string]string `json:"environment"`
	AWS         AWS               `json:"aws"`
	GCP         GCP               `json:"gcp"`
}

// AWS is how to reach AWS KMS.
type AWS struct {
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
	Keys     []Key  `json:"keys"`
}

// GCP is how to reach Google Cloud KMS.
type GCP struct {
	Endpoint string `json:"endpoint"`
	Keys     []Key  `json:"keys"`
}

// Key is a key of either KMS.
type Key struct {
	// Name is what our policy file calls it.
	Name string `json:"name"`
	// Key is what its KMS calls it: an alias, or a resource name.
	Key string `json:"key"`
	// ARN of a key of AWS KMS, another one each time.
	ARN string `json:"arn,omitempty"`
	URI string `json:"uri"`
}

// Policy returns a policy file that names all keys, and seals under the first
// one of each KMS.
func (i *Info) Policy() string {
	var b strings.Builder
	b.WriteString("keys:\n")
	for _, keys := range [][]Key{i.AWS.Keys, i.GCP.Keys} {
		for _, k := range keys {
			fmt.Fprintf(&b, "  %s: {uri: %q}\n", k.Name, k.URI)
		}
	}
	fmt.Fprintf(&b, "seal:\n  - match: {namespace: \"*\"}\n    keys: [%s, %s]   # either one opens\n", i.AWS.Keys[0].Name, i.GCP.Keys[0].Name)
	return b.String()
}
