package kms_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func TestParams(t *testing.T) {
	for _, tt := range []struct {
		name, uri, says string
	}{
		{"nothing", "x:///k", ""},
		{"all", "x:///k?region=eu&fips=true", ""},
		{"off", "x:///k?fips=false", ""},
		{"another scheme", "y:///k", "the scheme is not x"},
		{"user", "x://me:SECRET@h/k", "a user name or password does not belong in a key URI"},
		{"unknown", "x:///k?regoin=SECRET", `unknown parameter "regoin" (known are region, fips)`},
		{"twice", "x:///k?region=SECRET&region=b", `parameter "region" needs one value`},
		{"empty", "x:///k?region=", `parameter "region" needs one value`},
		{"no flag", "x:///k?fips=SECRET", `parameter "fips" is neither true nor false`},
		{"broken", "x:///k?region=%zzSECRET", "what follows ? cannot be parsed"},
		{"all at once", "x:///k?b=1&a=1", `unknown parameter "a" (known are region, fips); unknown parameter "b" (known are region, fips)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			p := kms.ReadParams(u, "x", "region", "fips")
			if got := p.Flag("fips"); got != strings.Contains(tt.uri, "fips=true") {
				t.Errorf("Flag = %v", got)
			}
			if tt.name == "all" && p.Text("region") != "eu" || p.Text("none") != "" {
				t.Errorf("Text = %q", p.Text("region"))
			}
			err = p.Err("write x:///k")
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, kms.Invalid, tt.says, "write x:///k")
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes a value: %v", err)
			}
		})
	}
}
