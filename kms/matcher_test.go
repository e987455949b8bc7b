package kms_test

import (
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

func TestMayRecord(t *testing.T) {
	t.Setenv("VAULT_NAMESPACE", "")
	t.Setenv("AWS_REGION", "us-east-1") // says nothing: it may be another one when the key is opened
	const (
		arn   = "arn:aws:kms:eu-west-1:111122223333:key/1234"
		other = "arn:aws:kms:us-east-1:111122223333:key/1234"
		mrk   = "arn:aws:kms::111122223333:key/mrk-1"
		key   = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	)
	registry := kms.NewRegistry(awskms.Backend, gcpkms.Backend, localkms.Backend, vaultkms.Backend, &stubBackend{scheme: "stub"})
	for _, test := range []struct {
		uri, id string
		want    bool
	}{
		{"awskms:///" + arn, "awskms:///" + arn, true},
		{"awskms:///" + arn + "?endpoint=http://127.0.0.1:1", "awskms:///" + arn, true},
		{"awskms:///" + arn, "awskms:///" + other, false},
		{"awskms:///arn:aws:kms:eu-west-1:111122223333:key/mrk-1", "awskms:///" + mrk, true},
		{"awskms:///" + mrk + "?region=eu-west-1", "awskms:///" + mrk, true},
		{"awskms:///arn:aws:kms:eu-west-1:111122223333:key/mrk-1", "awskms:///arn:aws:kms:eu-west-1:111122223333:key/mrk-1", false}, // not how it is recorded
		{"awskms:///1234?region=eu-west-1", "awskms:///" + arn, true},
		{"awskms:///1234?region=eu-west-1", "awskms:///" + other, false},
		{"awskms:///1234", "awskms:///" + other, true},
		{"awskms:///4321?region=eu-west-1", "awskms:///" + arn, false},
		{"awskms:///alias/a?region=eu-west-1", "awskms:///" + arn, true},
		{"awskms:///alias/a?region=eu-west-1", "awskms:///" + mrk, true},
		{"awskms:///alias/a?region=eu-west-1", "awskms:///" + other, false},
		{"awskms:///alias/a?region=eu-west-1", "awskms:///alias/a", false}, // no alias is recorded
		{"awskms:///alias/a?region=eu-west-1", "awskms:///arn:aws:kms:eu-west-1:111122223333:alias/a", false},
		{"awskms:///arn:aws:kms:eu-west-1:111122223333:alias/a", "awskms:///" + arn, true},
		{"awskms:///arn:aws:kms:eu-west-1:111122223333:alias/a", "awskms:///arn:aws:kms:eu-west-1:999999999999:key/1234", false},
		{"awskms:///arn:aws-cn:kms:eu-west-1:111122223333:alias/a", "awskms:///" + arn, false},
		{"awskms:///alias/a?region=eu-west-1&region=eu-west-1", "awskms:///" + arn, false}, // cannot be opened
		{"awskms:///alias/a?region=Europe", "awskms:///" + arn, false},
		{"gcpkms://" + key, "gcpkms://" + key, true},
		{"gcpkms://" + key + "?endpoint=127.0.0.1:1", "gcpkms://" + key, true},
		{"gcpkms://" + key, "gcpkms://" + key + "k", false},
		{"gcpkms://p", "gcpkms://p", false},
		{"hashivault://transit/k", "hashivault://transit/k", true},
		{"hashivault://transit/k?address=https://v", "hashivault://transit/k", true},
		{"hashivault://transit/k?namespace=a", "hashivault://transit/k?namespace=a", true},
		{"hashivault://transit/k?namespace=root", "hashivault://transit/k", true},
		{"hashivault://transit/k?namespace=a", "hashivault://transit/k", false},
		{"hashivault://transit/k", "hashivault://transit/kk", false},
		{"hashivault://k", "hashivault://k", false},
		{"local:///var/ring#k", "local://abc/k", true},
		{"local:///var/ring#k", "local://abc/kk", false},
		{"local:///var/ring#k", "local://abc/x/k", false},
		{"local:///var/ring#k", "local:///k", false},
		{"local:///var/ring", "local://abc/", false},
		{"stub://anything", "stub://whatever", true}, // its backend knows nothing
		{"stub://anything", "stubs://whatever", false},
		{"stub://anything", "hashivault://transit/k", false},
		{"unknown://k", "unknown://k", true}, // Open says what is wrong
		{"stub://a b", "stub://a b", false},
		{"stub", "stub", false},
		{"", "", false},
	} {
		if got := registry.MayRecord(test.uri, test.id); got != test.want {
			t.Errorf("MayRecord(%s, %s) = %v", test.uri, test.id, got)
		}
	}
}
