package gcpkms

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// metadataPatience is how long a Probe waits for the metadata server, which is on
// the same machine or next to it.
const metadataPatience = 500 * time.Millisecond

// identity is the owner of our credentials. It holds nothing secret.
type identity struct {
	text string
	// machine says that they come from the metadata server, which knows more.
	machine bool
}

// identityOf reads it off a credentials file; none means the metadata server's.
// What it does not know, or what is not there, it leaves out.
func identityOf(file []byte) identity {
	if len(file) == 0 {
		return identity{text: "the service account of this machine or workload", machine: true}
	}
	var f struct {
		Type        string `json:"type"`
		ClientEmail string `json:"client_email"`
		Account     string `json:"account"`
		Name        string `json:"name"` // of GDC's
		Audience    string `json:"audience"`
		Impersonate string `json:"service_account_impersonation_url"`
	}
	if json.Unmarshal(file, &f) != nil {
		return identity{}
	}
	impersonated := impersonatedAccount(f.Impersonate)
	switch f.Type {
	case "service_account":
		return identity{text: f.ClientEmail}
	case "authorized_user":
		if f.Account != "" {
			return identity{text: f.Account}
		}
		return identity{text: "authorized user (gcloud auth application-default login)"}
	case "impersonated_service_account":
		if impersonated != "" {
			return identity{text: impersonated + ", impersonated"}
		}
	case "external_account", "external_account_authorized_user":
		if impersonated != "" {
			return identity{text: impersonated + ", by federation from " + f.Audience}
		}
		return identity{text: "federated identity of " + f.Audience}
	case "gdch_service_account":
		return identity{text: f.Name}
	}
	return identity{}
}

// impersonatedAccount takes the account out of the URL that gives tokens for it:
// "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/A:generateAccessToken".
func impersonatedAccount(url string) string {
	_, account, _ := strings.Cut(url, "/serviceAccounts/")
	account, _, _ = strings.Cut(account, ":")
	return account
}

// resolve returns the identity as text. If only the metadata server knows it, resolve calls
// that server, for a moment.
func (i identity) resolve(ctx context.Context) string {
	if !i.machine {
		return i.text
	}
	ctx, cancel := context.WithTimeout(ctx, metadataPatience)
	defer cancel()
	client := metadata.NewWithOptions(&metadata.Options{UseDefaultClient: true, Logger: slog.New(slog.DiscardHandler)})
	email, err := client.EmailWithContext(ctx, "")
	if err != nil || email == "" {
		return i.text
	}
	return email
}
