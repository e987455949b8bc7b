package gcpkms

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

type denial struct{ permission, resource string }

// binding gives a member one permission on a resource and all below it.
type binding struct{ member, permission, resource string }

const (
	useToEncrypt = "cloudkms.cryptoKeyVersions.useToEncrypt"
	useToDecrypt = "cloudkms.cryptoKeyVersions.useToDecrypt"
)

// permissionsOf returns those permissions of a predefined role that this server checks;
// none if it does not know the role.
func permissionsOf(role string) []string {
	read := []string{"cloudkms.cryptoKeys.get", "cloudkms.cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.list"}
	switch role {
	case "roles/cloudkms.cryptoKeyEncrypter":
		return []string{useToEncrypt}
	case "roles/cloudkms.cryptoKeyDecrypter":
		return []string{useToDecrypt}
	case "roles/cloudkms.cryptoKeyEncrypterDecrypter":
		return []string{useToEncrypt, useToDecrypt}
	case "roles/cloudkms.viewer":
		return read
	case "roles/cloudkms.admin":
		return append(read, "cloudkms.keyRings.create", "cloudkms.cryptoKeys.create", "cloudkms.cryptoKeys.update",
			"cloudkms.cryptoKeyVersions.create", "cloudkms.cryptoKeyVersions.update",
			"cloudkms.cryptoKeyVersions.destroy", "cloudkms.cryptoKeyVersions.restore")
	default:
		return nil
	}
}

// SignIn makes token the OAuth access token of member, such as
// "serviceAccount:worker@p.iam.gserviceaccount.com". While any member is signed in, the
// server refuses requests without such a token in their "authorization" metadata ("Bearer "
// and the token), and a member may do only what Grant allows. Most clients send tokens over
// TLS only: put a TLS front before the server.
func (s *Server) SignIn(member, token string) {
	s.locked(func() { s.tokens[token] = member })
}

// Expire ends a token: requests with it answer UNAUTHENTICATED.
func (s *Server) Expire(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.tokens[token]; known {
		s.tokens[token] = ""
	}
}

// Grant gives member roles on resource and all below it; an empty resource is
// everything. A role is a predefined one, such as
// "roles/cloudkms.cryptoKeyDecrypter", or a single permission, as custom roles are
// made of, such as "cloudkms.cryptoKeys.get". One that is unknown is an error.
func (s *Server) Grant(member, resource string, roles ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, role := range roles {
		permissions := []string{role}
		if !strings.HasPrefix(role, "cloudkms.") {
			if permissions = permissionsOf(role); permissions == nil {
				return fmt.Errorf("gcpserver: grant: unknown role %q", role)
			}
		}
		for _, p := range permissions {
			s.bindings[binding{member, p, resource}] = true
		}
	}
	return nil
}

// Revoke takes from member all that Grant gave.
func (s *Server) Revoke(member string) {
	s.locked(func() { maps.DeleteFunc(s.bindings, func(b binding, _ bool) bool { return b.member == member }) })
}

// Deny takes an IAM permission, such as "cloudkms.cryptoKeyVersions.useToEncrypt", from all
// callers, on resource and all below it; an empty resource is everything. Calls that need
// it answer PERMISSION_DENIED, whether the resource exists or not.
func (s *Server) Deny(permission, resource string) {
	s.locked(func() { s.denied[denial{permission, resource}] = true })
}

// Allow takes back the Deny with the same arguments.
func (s *Server) Allow(permission, resource string) {
	s.locked(func() { delete(s.denied, denial{permission, resource}) })
}

// caller is the sender of a call.
type caller struct {
	member   string
	operator bool // the program that runs the server, which may do anything
}

type callerKey struct{}

func asOperator(ctx context.Context) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{operator: true})
}

// authenticate returns the identity of a call, if it has one.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) == 0 {
		return ctx, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	var token string
	if values := md.Get("authorization"); len(values) == 1 {
		token, _ = strings.CutPrefix(values[0], "Bearer ")
	}
	member := s.tokens[token]
	if member == "" {
		reason := "ACCESS_TOKEN_EXPIRED"
		if token == "" {
			reason = "CREDENTIALS_MISSING"
		}
		return nil, detailed(codes.Unauthenticated, "Request had invalid authentication credentials.",
			&errdetails.ErrorInfo{Reason: reason, Domain: "googleapis.com"})
	}
	return context.WithValue(ctx, callerKey{}, caller{member: member}), nil
}

// allowed is called with s.mu held.
func (s *Server) allowed(ctx context.Context, permission, resource string) error {
	who, _ := ctx.Value(callerKey{}).(caller)
	if who.operator {
		return nil
	}
	for d := range s.denied {
		if d.permission == permission && within(resource, d.resource) {
			return permissionDenied(permission, resource)
		}
	}
	if len(s.tokens) == 0 {
		return nil
	}
	for b := range s.bindings {
		if b.member == who.member && b.permission == permission && within(resource, b.resource) {
			return nil
		}
	}
	return permissionDenied(permission, resource)
}

// within reports whether resource is parent or below it.
func within(resource, parent string) bool {
	return parent == "" || resource == parent || strings.HasPrefix(resource, parent+"/")
}
