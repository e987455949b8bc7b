package gcpkms

import (
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	resourceID = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,63}$`)
	locationRE = regexp.MustCompile(`^projects/[a-z0-9][a-z0-9.:-]*/locations/[a-z0-9-]+$`)
)

// splitRing takes apart "<location>/keyRings/<id>".
func splitRing(name string) (location, id string, ok bool) {
	location, id, ok = strings.Cut(name, "/keyRings/")
	return location, id, ok && locationRE.MatchString(location) && resourceID.MatchString(id)
}

// splitKey takes apart "<key ring>/cryptoKeys/<id>".
func splitKey(name string) (ring, id string, ok bool) {
	ring, id, ok = strings.Cut(name, "/cryptoKeys/")
	_, _, ringOK := splitRing(ring)
	return ring, id, ok && ringOK && resourceID.MatchString(id)
}

// splitVersion takes apart "<key>/cryptoKeyVersions/<number>".
func splitVersion(name string) (key string, number int, ok bool) {
	key, digits, ok := strings.Cut(name, "/cryptoKeyVersions/")
	_, _, keyOK := splitKey(key)
	number, err := strconv.Atoi(digits)
	return key, number, ok && keyOK && err == nil && number > 0 && strconv.Itoa(number) == digits
}

func badName(field string) error {
	return status.Errorf(codes.InvalidArgument, "The field %s does not hold a resource name of the right form.", field)
}

func notFound(kind, name string) error {
	return status.Errorf(codes.NotFound, "%s %s not found.", kind, name)
}
