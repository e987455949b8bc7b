package awsserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// apiError is a refusal as AWS KMS words it.
type apiError struct {
	status     int
	code       string
	message    string
	retryAfter time.Duration // of whole seconds; 0 = the header is left out
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// fail returns the refusal with the status that AWS gives its code.
func fail(code, message string) error {
	return &apiError{status: statusOf(code), code: code, message: message}
}

// statusOf returns the HTTP status of an error code, as the API reference of AWS
// KMS lists them.
func statusOf(code string) int {
	switch code {
	case "KMSInternalException", "KeyUnavailableException", "InternalFailure":
		return http.StatusInternalServerError
	case "DependencyTimeoutException", "ServiceUnavailable", "ServiceUnavailableException":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func writeError(w http.ResponseWriter, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, code: "KMSInternalException", message: "the test server failed"}
	}
	w.Header().Set("Content-Type", contentType)
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.retryAfter/time.Second)))
	}
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": e.code, "message": e.message}) // a client that is gone needs no answer
}
