package awskms

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// apiError is a refusal as AWS KMS words it.
type apiError struct {
	status     int // 0 = what the service gives the code
	code       string
	message    string
	retryAfter time.Duration // of whole seconds; 0 = the header is left out
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// fail returns the refusal with the status that the service gives its code.
func fail(code, message string) error {
	return &apiError{code: code, message: message}
}

// statusOf returns the HTTP status of an error code, as the API reference of AWS
// KMS lists them.
func statusOf(code string) int {
	switch code {
	case "KMSInternalException", "KeyUnavailableException", "InternalFailure":
		return http.StatusInternalServerError
	case "DependencyTimeoutException", "ServiceUnavailable", "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	case "DryRunOperationException":
		return http.StatusPreconditionFailed
	}
	return http.StatusBadRequest
}

func (v *service) writeError(w http.ResponseWriter, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: "KMSInternalException", message: "the test server failed"}
	}
	status := e.status
	if status == 0 {
		status = v.status(e.code)
	}
	w.Header().Set("Content-Type", v.contentType)
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.retryAfter/time.Second)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(v.encodeError(e)) // a client that is gone needs no answer
}

func errorJSON(e *apiError) []byte {
	out, err := json.Marshal(map[string]string{"__type": e.code, "message": e.message})
	if err != nil {
		return nil // strings always marshal
	}
	return out
}
