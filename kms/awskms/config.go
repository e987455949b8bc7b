package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// defaultTimeout bounds one request without a deadline of its caller, the time to get
// credentials included. AWS KMS answers in some 25 ms.
const defaultTimeout = 10 * time.Second

// maxIdleConns is how many connections to AWS KMS stay open between bursts: two
// calls' worth of parallel requests. With one there would be new ones all the time:
// an answer is there before its connection is free again.
const maxIdleConns = 2 * maxParallel

// Config says which key to open and how to reach AWS KMS. Key is required; what
// else is left out comes from where AWS's own tools look: the environment, the
// shared configuration files, and the metadata service.
type Config struct {
	// Key is a key ARN, an alias ARN, an alias such as "alias/payments", or a key
	// ID. A key ARN of a multi-Region key may leave out its Region.
	Key string
	// Region of the key; default that of the ARN, then AWS_REGION and the like.
	Region string
	// Credentials to sign with; default the SDK's default chain.
	Credentials aws.CredentialsProvider

	// Endpoint replaces the address of AWS KMS, for emulators and VPC endpoints;
	// default AWS_ENDPOINT_URL_KMS and the like, then AWS's own.
	Endpoint string
	// FIPS uses the endpoints with FIPS 140-validated cryptography.
	FIPS bool
	// DualStack uses the endpoints that also speak IPv6.
	DualStack bool

	// Timeout bounds each request, on top of the caller's deadline; default
	// 10 s.
	Timeout time.Duration
	// InsecurePlainHTTP permits an http:// endpoint on another machine, where
	// every data key can be read on the way. Only where something else encrypts
	// the way, or for emulators without real data.
	InsecurePlainHTTP bool
}

// New returns the key that cfg names.
//
// It sends one DescribeKey: an alias or key ID is resolved to the key ARN, which is used
// and recorded from then on, wherever the alias moves; a key that cannot do the job
// (asymmetric, for signatures or MACs, owned by an AWS service) is refused with class
// Invalid. A key that is disabled or pending deletion is opened, and its use gives Disabled
// until it is enabled.
//
// For a key ARN the answer is a courtesy: if DescribeKey is denied, or AWS KMS does not
// answer right now, New continues without. For an alias or a key ID that is an error. A
// Config that cannot be used gives an *kms.Error of class Invalid that lists everything
// wrong with it.
func New(ctx context.Context, cfg Config) (*Key, error) {
	n, problem := cfg.check()
	if problem != nil {
		return nil, problem
	}
	if n.region == "" {
		n.region = cfg.Region
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	loaded, err := cfg.load(ctx, n.region)
	if err != nil {
		return nil, err
	}
	n.region = loaded.Region
	if !regionForm.MatchString(n.region) {
		return nil, cfg.failed("there is no Region, or it is not one of AWS's", "add ?region=eu-west-1 to the key URI, name the key by its ARN, or set AWS_REGION", nil)
	}
	transport := newTransport(loaded.HTTPClient, cfg.InsecurePlainHTTP)
	credentials := loaded.Credentials
	if cfg.Credentials != nil {
		credentials = aws.NewCredentialsCache(cfg.Credentials)
	}
	k := &Key{name: n, timeout: cfg.Timeout, rotation: rotationTimes{wait: rotationWait, pause: rotationPause}, transport: transport, credentials: namedCredentials{credentials}}
	k.caller = sts.NewFromConfig(loaded, func(o *sts.Options) {
		o.HTTPClient = transport
		o.Retryer = aws.NopRetryer{}
		o.Credentials = k.credentials
		o.Logger, o.ClientLogMode = logging.Nop{}, 0
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	k.api = awskms.NewFromConfig(loaded, func(o *awskms.Options) {
		o.HTTPClient = transport
		o.Retryer = aws.NopRetryer{}
		o.Credentials = k.credentials
		o.APIOptions = append(o.APIOptions, wipeSerialized)
		o.Logger, o.ClientLogMode = logging.Nop{}, 0
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	k.asked = cfg.Key
	if n.isKeyARN() {
		k.asked = n.arn(n.region)
		k.resolved()
	} else {
		k.id = Scheme + ":///" + cfg.Key // for errors until the ARN is known
	}
	if err := k.describe(ctx); err != nil {
		transport.CloseIdleConnections()
		return nil, err
	}
	return k, nil
}

// load reads the environment and the shared configuration files.
func (cfg Config) load(ctx context.Context, region string) (aws.Config, error) {
	// The timeout is for the services that give credentials: all callers share one request to
	// them, which no caller's context ends.
	client := awshttp.NewBuildableClient().WithTimeout(cfg.Timeout).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = maxIdleConns
		t.DisableCompression = true // an inflater would hold data keys that are never wiped
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if cfg.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(cfg.Credentials))
	}
	if cfg.FIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if cfg.DualStack {
		options = append(options, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	switch {
	case err == nil:
		return loaded, nil
	case ctx.Err() != nil:
		return loaded, driver.Canceled(driver.OpOpen, cfg.uri(), ctx.Err())
	}
	return loaded, cfg.failed("the settings for AWS in the environment or in the shared configuration files cannot be used",
		"check AWS_PROFILE, AWS_CONFIG_FILE, AWS_CA_BUNDLE and the files they name", err)
}

// uri names the key for errors while it has no ID.
func (cfg Config) uri() string {
	if _, ok := parseName(cfg.Key); !ok {
		return ""
	}
	return Scheme + ":///" + cfg.Key
}

func (cfg Config) failed(detail, advice string, cause error) *kms.Error {
	return &kms.Error{Class: kms.Invalid, Op: driver.OpOpen, KeyID: cfg.uri(), Detail: detail, Advice: advice, Err: cause}
}

// check lists all that is wrong with cfg.
func (cfg Config) check() (name, error) {
	var problems driver.Problems
	bad := problems.Bad
	n, ok := parseName(cfg.Key)
	switch {
	case !ok:
		bad("it names no key as AWS does", uriAdvice)
	case n.region == "" && n.account != "" && !n.multiRegion():
		bad("the ARN names no Region", uriAdvice)
	case n.region != "" && cfg.Region != "" && n.region != cfg.Region:
		bad("the ARN names another Region than ?region=", "leave ?region= out where the key is named by its ARN")
	case n.region != "" && !regionForm.MatchString(n.region), cfg.Region != "" && !regionForm.MatchString(cfg.Region):
		bad("the Region is not one of AWS's", "write the Region as in eu-west-1")
	}
	if cfg.Timeout < 0 {
		bad("the timeout is negative", "leave the timeout out, or give a positive one")
	}
	if cfg.Endpoint != "" {
		if cfg.FIPS || cfg.DualStack {
			bad("an endpoint of one's own leaves no choice of FIPS or dual stack", "name the endpoint that has what you need, and leave fips and dualstack out")
		}
		if u, err := driver.ParseAddress("endpoint", cfg.Endpoint, false); err != nil {
			bad(err.Error(), "write the endpoint as in http://127.0.0.1:4566 or https://kms.example.com")
		} else if !cfg.InsecurePlainHTTP && driver.Exposed(u) {
			bad(exposedDetail, exposedAdvice)
		}
	}
	if err := problems.Err(driver.OpOpen, cfg.uri()); err != nil {
		return n, err
	}
	return n, nil
}

const (
	exposedDetail = "http:// to another machine would show every data key to the network"
	exposedAdvice = "use https://, or " + paramInsecure + "=true in the key URI where something else encrypts the way"
)

// namedCredentials marks the errors of a provider, which the SDK mixes with
// those of the request itself.
type namedCredentials struct{ aws.CredentialsProvider }

// errNoProvider means that the configuration names no source of credentials.
var errNoProvider = errors.New("awskms: no provider")

// credentialsError means that there is nothing to sign a request with.
type credentialsError struct{ cause error }

func (e *credentialsError) Error() string { return fmt.Sprintf("awskms: no credentials (%T)", e.cause) }
func (e *credentialsError) Unwrap() error { return e.cause }

// Retrieve implements aws.CredentialsProvider.
func (c namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.CredentialsProvider == nil {
		return aws.Credentials{}, &credentialsError{errNoProvider}
	}
	got, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return got, &credentialsError{err}
	}
	return got, nil
}
