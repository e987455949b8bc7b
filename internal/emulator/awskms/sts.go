package awskms

import (
	"cmp"
	"encoding/xml"
	"mime"
	"net/http"
	"net/url"
)

// STS, the service that returns the identity, speaks AWS's query protocol: a form in,
// XML out, and error codes of its own.

func stsService() *service {
	return &service{
		name: "sts", signed: []string{"host", "x-amz-date"}, contentType: "text/xml",
		operations: func() map[string]operation {
			return map[string]operation{"GetCallerIdentity": getCallerIdentity}
		},
		encode: func(answer any) ([]byte, error) { return xml.Marshal(answer) }, encodeError: errorXML, status: stsStatus,
	}
}

// stsAction returns the operation of STS that a form names; empty if it is none.
func stsAction(r *http.Request, body []byte) string {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return ""
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Version") != "2011-06-15" {
		return ""
	}
	return form.Get("Action")
}

type callerIdentity struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Arn     string   `xml:"GetCallerIdentityResult>Arn"`
	UserID  string   `xml:"GetCallerIdentityResult>UserId"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
}

// getCallerIdentity needs no permission, as at AWS.
func getCallerIdentity(c *call, _ []byte) (any, error) {
	return &callerIdentity{Arn: c.who.arn, UserID: c.who.id, Account: c.who.account()}, nil
}

// stsCode returns STS's name of an error that AWS KMS has another code for.
func stsCode(code string) string {
	return cmp.Or(map[string]string{
		"UnrecognizedClientException":         "InvalidClientTokenId",
		"InvalidSignatureException":           "SignatureDoesNotMatch",
		"ExpiredTokenException":               "ExpiredToken",
		"MissingAuthenticationTokenException": "MissingAuthenticationToken",
		"IncompleteSignatureException":        "IncompleteSignature",
		"ThrottlingException":                 "Throttling",
		"AccessDeniedException":               "AccessDenied",
		"UnknownOperationException":           "InvalidAction",
		"KMSInternalException":                "InternalFailure",
	}[code], code)
}

func stsStatus(code string) int {
	switch stsCode(code) {
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "MissingAuthenticationToken", "AccessDenied":
		return http.StatusForbidden
	case "InternalFailure":
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func errorXML(e *apiError) []byte {
	out, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Type    string   `xml:"Error>Type"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}{Type: "Sender", Code: stsCode(e.code), Message: e.message})
	if err != nil {
		return nil // strings always marshal
	}
	return out
}
