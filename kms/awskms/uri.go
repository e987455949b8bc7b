package awskms

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/waxseal/waxseal/kms"
)

// Scheme of the URIs that Backend opens.
const Scheme = "awskms"

// Parameters of a key URI. They say how to get to the key; none is recorded.
const (
	paramRegion    = "region"
	paramEndpoint  = "endpoint"
	paramFIPS      = "fips"
	paramDualStack = "dualstack"
	paramInsecure  = "insecure-plain-http"
)

// Backend opens keys by URIs of the form
//
//	awskms:///KEY[?region=REGION][&endpoint=URL][&fips=true][&dualstack=true][&insecure-plain-http=true]
//
// where KEY is a key ARN, an alias ARN, an alias (alias/payments) or a key ID.
// The Region comes from the ARN, from ?region=, or from the environment.
const Backend backend = Scheme

// backend is a string so that Backend can be a constant.
type backend string

var (
	_ kms.Backend = Backend
	_ kms.Matcher = Backend
)

// Scheme implements kms.Backend.
func (b backend) Scheme() string { return string(b) }

// Open implements kms.Backend; New documents the request that it sends. A URI that cannot
// be used gives an *kms.Error of class Invalid with a hint.
func (b backend) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	cfg, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	return New(ctx, cfg)
}

// MayRecord implements kms.Matcher. A key ARN says what is recorded. An alias or a
// key ID narrows it down: to the account and Region, as far as the URI names them.
func (b backend) MayRecord(uri *url.URL, id string) bool {
	cfg, err := parseURI(uri)
	if err != nil {
		return false
	}
	ours, problem := cfg.check()
	if problem != nil {
		return false
	}
	if ours.isKeyARN() {
		return id == ours.keyID()
	}
	arn, found := strings.CutPrefix(id, Scheme+":///")
	its, ok := parseName(arn)
	if !found || !ok || id != its.keyID() || !its.isKeyARN() {
		return false
	}
	if ours.region == "" {
		ours.region = cfg.Region
	}
	match := func(ours, its string) bool { return ours == "" || its == "" || ours == its }
	return match(ours.partition, its.partition) && match(ours.region, its.region) && match(ours.account, its.account) &&
		(strings.HasPrefix(ours.resource, "alias/") || ours.resource == its.resource)
}

func parseURI(u *url.URL) (Config, error) {
	p := kms.ReadParams(u, Scheme, paramRegion, paramEndpoint, paramFIPS, paramDualStack, paramInsecure)
	if u.Fragment != "" {
		p.Bad("there is nothing after # in a key URI of AWS's")
	}
	if u.Host != "" {
		p.Bad("there are three slashes before the key, and no host")
	}
	cfg := Config{
		Key:    strings.TrimPrefix(u.EscapedPath(), "/"),
		Region: p.Text(paramRegion), Endpoint: p.Text(paramEndpoint),
		FIPS: p.Flag(paramFIPS), DualStack: p.Flag(paramDualStack), InsecurePlainHTTP: p.Flag(paramInsecure),
	}
	if err := p.Err(uriAdvice); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

const uriAdvice = "write awskms:///arn:aws:kms:eu-west-1:111122223333:key/KEY-ID, or awskms:///alias/name?region=eu-west-1"

// The forms of AWS's names. They are stricter than AWS in what cannot be in a
// recorded ID, and no stricter otherwise: emulators make key IDs of their own.
var (
	arnForm    = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]*):([0-9]{12}):(key/[A-Za-z0-9-]{1,128}|alias/[A-Za-z0-9/_-]{1,250})$`)
	shortForm  = regexp.MustCompile(`^(alias/[A-Za-z0-9/_-]{1,250}|[A-Za-z0-9-]{1,128})$`)
	regionForm = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)
)

// multiRegionPrefix begins the key IDs of multi-Region keys, and of no others.
const multiRegionPrefix = "mrk-"

// name is how a Config names a key, taken apart.
type name struct {
	partition, region, account string // empty where the name is no ARN
	resource                   string // "key/ID", "alias/name"
}

// parseName takes a Config's Key apart.
func parseName(key string) (name, bool) {
	if m := arnForm.FindStringSubmatch(key); m != nil {
		return name{partition: m[1], region: m[2], account: m[3], resource: m[4]}, true
	}
	if !shortForm.MatchString(key) || strings.HasPrefix(key, "arn:") {
		return name{}, false
	}
	if !strings.HasPrefix(key, "alias/") {
		key = "key/" + key
	}
	return name{resource: key}, true
}

// isKeyARN reports whether the name alone says which key it is.
func (n name) isKeyARN() bool { return n.account != "" && strings.HasPrefix(n.resource, "key/") }

// multiRegion reports whether it is the name of a multi-Region key.
func (n name) multiRegion() bool { return strings.HasPrefix(n.resource, "key/"+multiRegionPrefix) }

// arn writes the name of a key in region as AWS does.
func (n name) arn(region string) string {
	return strings.Join([]string{"arn", n.partition, "kms", region, n.account, n.resource}, ":")
}

// keyID is what envelopes record of the key with this ARN. The replicas of a
// multi-Region key are one key with one ID in several Regions, and AWS opens with
// each what any of them sealed: so their Region is left out.
func (n name) keyID() string {
	region := n.region
	if n.multiRegion() {
		region = ""
	}
	return Scheme + ":///" + n.arn(region)
}
