package gcpkms

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Harm is something that goes wrong with a request or an answer on its way, or
// in a server that misbehaves.
type Harm uint8

const (
	// NoHarm lets requests and answers pass as they are.
	NoHarm Harm = iota
	// DamagedRequest flips a bit of the plaintext or ciphertext before the server
	// sees it: a checksum that came along no longer matches.
	DamagedRequest
	// DamagedRequestAAD does so with the additional authenticated data.
	DamagedRequestAAD
	// LostRequestChecksums strips the checksums off a request: nothing is
	// verified, and the answer says so.
	LostRequestChecksums
	// DamagedAnswer flips a bit of the ciphertext or plaintext in the answer,
	// after its checksum was made.
	DamagedAnswer
	// LostAnswerChecksum strips the checksum off the answer.
	LostAnswerChecksum
	// WrongPlaintext makes Decrypt answer random bytes of the right length, with the
	// checksum that belongs to them.
	WrongPlaintext
	// TruncatedPlaintext makes Decrypt answer half of the plaintext, with the checksum that
	// belongs to it.
	TruncatedPlaintext
	// WrongKeyName names another key in the answer, or a version of it, wherever an
	// answer names one.
	WrongKeyName
	// EmptyAnswer makes Encrypt answer no ciphertext and Decrypt no plaintext, with the
	// checksum that belongs to nothing.
	EmptyAnswer
	// HugeAnswer makes the ciphertext or plaintext in the answer 64 KiB longer,
	// with the checksum that belongs to it.
	HugeAnswer
	// GiantAnswer makes it 16 MiB longer, which is more than most clients take.
	GiantAnswer
	// EndlessList makes ListCryptoKeyVersions answer the same page for ever, with a token
	// for one more.
	EndlessList
)

const giant = 16 << 20

// Fault is something that goes wrong on command. What it sets happens in this
// order: Latency, StallAfterHeaders, Stall, Code, Harm, Reset.
type Fault struct {
	// Method that it befalls, such as "Encrypt"; empty for every one.
	Method string
	// Times is how many calls it befalls; 0 for all until ClearFaults.
	Times int

	// Latency is how long the server waits before it goes on.
	Latency time.Duration
	// Stall leaves the call without an answer: it ends when the client gives up.
	Stall bool
	// StallAfterHeaders sends the headers of an answer and then nothing more, until
	// the client gives up.
	StallAfterHeaders bool
	// Code is the status that is answered instead of doing anything.
	Code codes.Code
	// Message of that status, if not a fixed text.
	Message string
	// RetryAfter is sent along with Code as google.rpc.RetryInfo, if positive.
	RetryAfter time.Duration
	// Detail is sent along with Code, if not nil: a message of google.rpc such as
	// ErrorInfo or QuotaFailure.
	Detail proto.Message
	// RetryHeader is sent along with Code as the header "retry-after", as proxies
	// and front ends send it: a number of seconds, or a date. Empty for none.
	RetryHeader string
	// Harm befalls Encrypt and Decrypt, and where it says so other methods.
	Harm Harm
	// Reset breaks the connection in the middle of the answer, and with it all
	// other calls on that connection.
	Reset bool
}

// Inject applies f to calls from now on. Of several faults for one call the one injected
// first counts.
func (s *Server) Inject(f Fault) {
	s.locked(func() { s.faults = append(s.faults, &pending{Fault: f, left: f.Times}) })
}

// ClearFaults ends all faults. A call that stalls already goes on stalling.
func (s *Server) ClearFaults() {
	s.locked(func() { s.faults = nil })
}

type pending struct {
	Fault
	left int
}

// nextFault returns the fault that befalls a call of method; none is the zero Fault.
func (s *Server) nextFault(method string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.faults {
		if p.Method != "" && p.Method != method {
			continue
		}
		if p.Times > 0 {
			if p.left--; p.left == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return p.Fault
	}
	return Fault{}
}

// strike waits, stalls or answers with an error as f says.
func (f Fault) strike(ctx context.Context) error {
	if err := wait(ctx, f.Latency); err != nil {
		return err
	}
	if f.StallAfterHeaders {
		if err := grpc.SendHeader(ctx, nil); err != nil {
			return err
		}
	}
	if f.Stall || f.StallAfterHeaders {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.Code != codes.OK {
		if f.RetryHeader != "" {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("retry-after", f.RetryHeader)) // it fails only outside of a handler
		}
		return faultError(f)
	}
	return nil
}

type faultKey struct{}

func withFault(ctx context.Context, f Fault) context.Context {
	return context.WithValue(ctx, faultKey{}, f)
}

func faultOf(ctx context.Context) Fault {
	f, _ := ctx.Value(faultKey{}).(Fault)
	return f
}

// damaged returns b with one bit flipped; nothing becomes one byte.
func damaged(b []byte) []byte {
	if len(b) == 0 {
		return []byte{1}
	}
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	return b
}

type sum = *wrapperspb.Int64Value

func (f Fault) harmEncryptRequest(req *kmspb.EncryptRequest) {
	f.harmRequest(&req.Plaintext, &req.AdditionalAuthenticatedData, &req.PlaintextCrc32C, &req.AdditionalAuthenticatedDataCrc32C)
}

func (f Fault) harmDecryptRequest(req *kmspb.DecryptRequest) {
	f.harmRequest(&req.Ciphertext, &req.AdditionalAuthenticatedData, &req.CiphertextCrc32C, &req.AdditionalAuthenticatedDataCrc32C)
}

func (f Fault) harmRequest(data, aad *[]byte, sums ...*sum) {
	switch f.Harm {
	case DamagedRequest:
		*data = damaged(*data)
	case DamagedRequestAAD:
		*aad = damaged(*aad)
	case LostRequestChecksums:
		for _, s := range sums {
			*s = nil
		}
	default:
	}
}

func (f Fault) harmEncryptAnswer(resp *kmspb.EncryptResponse) {
	if f.Harm == WrongKeyName {
		misname(&resp.Name)
	}
	f.harmAnswer(&resp.Ciphertext, &resp.CiphertextCrc32C)
}

func (f Fault) harmDecryptAnswer(resp *kmspb.DecryptResponse) {
	switch f.Harm {
	case WrongPlaintext:
		rand.Read(resp.Plaintext) // never fails: crypto/rand ends the process instead
		resp.PlaintextCrc32C = checksum(resp.Plaintext)
	case TruncatedPlaintext:
		resp.Plaintext = resp.Plaintext[:len(resp.Plaintext)/2]
		resp.PlaintextCrc32C = checksum(resp.Plaintext)
	default:
		f.harmAnswer(&resp.Plaintext, &resp.PlaintextCrc32C)
	}
}

// harmAnswer does what may happen to a ciphertext or plaintext.
func (f Fault) harmAnswer(data *[]byte, s *sum) {
	switch f.Harm {
	case DamagedAnswer:
		*data = damaged(*data)
		return
	case LostAnswerChecksum:
		*s = nil
		return
	case EmptyAnswer:
		*data = nil
	case HugeAnswer:
		*data = append(*data, make([]byte, MaxPlaintext)...)
	case GiantAnswer:
		*data = append(*data, make([]byte, giant)...)
	default:
		return
	}
	*s = checksum(*data)
}

// harmAdminAnswer does what concerns answers about keys.
func (f Fault) harmAdminAnswer(answer any) {
	list, isList := answer.(*kmspb.ListCryptoKeyVersionsResponse)
	switch {
	case f.Harm == EndlessList && isList:
		list.NextPageToken = "0"
	case f.Harm != WrongKeyName:
	case isList:
		for _, v := range list.CryptoKeyVersions {
			misname(&v.Name)
		}
	default:
		switch a := answer.(type) {
		case *kmspb.CryptoKeyVersion:
			misname(&a.Name)
		case *kmspb.CryptoKey:
			misname(&a.Name)
			if a.Primary != nil {
				misname(&a.Primary.Name)
			}
		}
	}
}

func misname(name *string) { *name = strings.Replace(*name, "/cryptoKeys/", "/cryptoKeys/not-", 1) }
