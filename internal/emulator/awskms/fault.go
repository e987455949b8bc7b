package awskms

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"time"
)

// AllOperations in place of an operation's name means each of them.
const AllOperations = "*"

// Fault is what goes wrong with one request; the zero value is a healthy one.
// In this order: it waits for Latency, stalls, is reset, fails with Code, and
// only then is answered, with an answer that the other fields spoil.
type Fault struct {
	// Latency is waited first.
	Latency time.Duration
	// Stall leaves the request without any answer until the client gives up.
	Stall bool
	// StallInBody sends status and headers and half of the answer, and no more.
	StallInBody bool
	// Reset closes the connection without an answer.
	Reset bool
	// ResetInBody closes the connection in the middle of the answer.
	ResetInBody bool

	// Code answers with this error code of AWS, such as "ThrottlingException" or
	// "KMSInternalException".
	Code string
	// Message of the answer with Code.
	Message string
	// Status of the answer with Code; default what AWS gives that code.
	Status int
	// RetryAfter goes with Code in a Retry-After header, in whole seconds; 0
	// leaves the header out.
	RetryAfter time.Duration

	// Raw is sent as the body instead of the answer, with status 200, or Status.
	Raw []byte

	// WrongPlaintext makes Decrypt answer other bytes of the same length.
	WrongPlaintext bool
	// TruncatePlaintext makes Decrypt leave out the last byte.
	TruncatePlaintext bool
	// FlipCiphertext makes Encrypt and ReEncrypt flip one bit of their ciphertext.
	FlipCiphertext bool
	// EmptyCiphertext makes Encrypt and ReEncrypt answer without a ciphertext.
	EmptyCiphertext bool
	// WrongKeyID makes answers name another key than the one that was used.
	WrongKeyID bool
	// WrongSourceKeyID makes ReEncrypt's answer name another source.
	WrongSourceKeyID bool
	// Damage alters some bytes in the middle of the answer, which is no JSON any more.
	Damage bool
}

// Throttle returns the fault of a request beyond the quota.
func Throttle() Fault {
	return Fault{Code: "ThrottlingException", Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
}

// Outage returns the fault of a KMS that fails inside.
func Outage() Fault {
	return Fault{Code: "KMSInternalException", Message: "an internal error"}
}

// SetLatency delays every request by d, on top of its Fault: the way to AWS and back.
// Requests wait at the same time, not one after the other. Zero, as at the start, ends it.
func (s *Server) SetLatency(d time.Duration) {
	s.locked(func() { s.latency = d })
}

// SetClock sets the server's clock ahead of the machine's by d, or behind it if d is
// negative: in the Date of answers, and where signatures are checked, which may be 5
// minutes off.
func (s *Server) SetClock(d time.Duration) {
	s.locked(func() { s.ahead = d })
}

// Script gives the next requests of operation ("Encrypt", or AllOperations) these faults,
// one each, in order; then all is well again. Scripts of an operation come before those of
// AllOperations, and both before SetFault.
func (s *Server) Script(operation string, faults ...Fault) {
	s.locked(func() { s.scripts[operation] = append(s.scripts[operation], faults...) })
}

// SetFault gives every request of operation, or AllOperations, the fault f from now on. The
// zero Fault ends it.
func (s *Server) SetFault(operation string, f Fault) {
	s.locked(func() { s.always[operation] = f })
}

// nextFault returns the fault of the next request of operation. s is locked.
func (s *Server) nextFault(operation string) Fault {
	for _, name := range []string{operation, AllOperations} {
		if script := s.scripts[name]; len(script) > 0 {
			s.scripts[name] = script[1:]
			return script[0]
		}
	}
	if f, ok := s.always[operation]; ok {
		return f
	}
	return s.always[AllOperations]
}

// before applies a fault that comes before the operation, and reports whether the operation
// runs.
func (s *Server) before(w http.ResponseWriter, r *http.Request, service *service, f Fault) bool {
	if f.Latency > 0 {
		timer := time.NewTimer(f.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-s.stop:
		}
	}
	switch {
	case f.Stall:
		s.hang(r)
		panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http ends a connection without an answer
	case f.Reset:
		panic(http.ErrAbortHandler) //nolint:forbidigo // likewise
	case f.Code != "":
		service.writeError(w, &apiError{status: f.Status, code: f.Code, message: f.Message, retryAfter: f.RetryAfter})
		return false
	case f.Raw != nil:
		if f.Status != 0 {
			w.WriteHeader(f.Status)
		}
		_, _ = w.Write(f.Raw) // a client that is gone needs no answer
		return false
	}
	return true
}

// hang waits until the client, or the server, gives up.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.stop:
	}
}

// write sends an answer, or the part of it that f lets through.
func (s *Server) write(w http.ResponseWriter, r *http.Request, service *service, f Fault, body []byte) {
	if f.Damage {
		copy(body[len(body)/2:], "\x00\xff")
	}
	w.Header().Set("Content-Type", service.contentType)
	w.Header().Set("X-Amzn-Requestid", rand.Text())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if !f.StallInBody && !f.ResetInBody {
		_, _ = w.Write(body) // a client that is gone needs no answer
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	if f.StallInBody {
		s.hang(r)
	}
	panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http ends a connection amid an answer
}

// spoil makes an answer wrong.
func (f Fault) spoil(answer any) {
	switch a := answer.(type) {
	case *encryptAnswer:
		f.spoilCiphertext(&a.CiphertextBlob, &a.KeyID)
	case *decryptAnswer:
		if f.WrongPlaintext {
			rand.Read(a.Plaintext) // never fails: crypto/rand ends the process instead
		}
		if f.TruncatePlaintext {
			a.Plaintext = a.Plaintext[:len(a.Plaintext)-1]
		}
		if f.WrongKeyID {
			a.KeyID = otherARN(a.KeyID)
		}
	case *reEncryptAnswer:
		f.spoilCiphertext(&a.CiphertextBlob, &a.KeyID)
		if f.WrongSourceKeyID {
			a.SourceKeyID = otherARN(a.SourceKeyID)
		}
	}
}

func (f Fault) spoilCiphertext(blob *[]byte, keyID *string) {
	if f.FlipCiphertext {
		(*blob)[len(*blob)/2] ^= 1
	}
	if f.EmptyCiphertext {
		*blob = nil
	}
	if f.WrongKeyID {
		*keyID = otherARN(*keyID)
	}
}
