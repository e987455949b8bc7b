package devkms

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

// AWSAlias and GCPKey name the keys that are always there.
const (
	AWSAlias = "alias/waxseal-dev"
	GCPKey   = "projects/dev/locations/global/keyRings/dev/cryptoKeys/waxseal-dev"
)

// Config says where the servers listen, which keys they have and how slow they are.
type Config struct {
	// AWSAddress and GCPAddress are loopback addresses; port 0 takes a free one.
	AWSAddress, GCPAddress string
	// AWSAliases and GCPKeys name further keys.
	AWSAliases, GCPKeys []string
	// Latency is how long each answer takes.
	Latency time.Duration
}

// Error says why the servers did not start, or why a line of a rehearsal is not
// understood. Its text and advice name the flags of the command.
type Error struct {
	Err    error
	Advice string
	// Usage says that the command line, or the line read, is wrong.
	Usage bool
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *Error) Hint() string { return e.Advice }

func misused(advice, format string, args ...any) *Error {
	return &Error{Err: fmt.Errorf(format, args...), Advice: advice, Usage: true}
}

// Servers are an AWS KMS and a Google Cloud KMS on loopback.
type Servers struct {
	aws     *awskms.Server
	gcp     *gcpkms.Server
	aliases []string // in AWS KMS
	arns    []string // of the keys that they name
	names   []string // in Google Cloud KMS
	latency time.Duration
}

// Start starts both servers, with their keys. Its errors about a Config that cannot
// be used are *Error.
func Start(ctx context.Context, cfg Config) (_ *Servers, err error) {
	d := &Servers{latency: cfg.Latency}
	for _, alias := range append([]string{AWSAlias}, cfg.AWSAliases...) {
		if !strings.HasPrefix(alias, "alias/") {
			alias = "alias/" + alias
		}
		if !aliasForm.MatchString(alias) {
			return nil, misused("an alias has letters, digits, /, _ and -, as in alias/orders", "--aws-alias %q is no alias", alias)
		}
		if slices.Contains(d.aliases, alias) {
			return nil, misused("give each alias once; "+AWSAlias+" is always there", "--aws-alias %q is there already", alias)
		}
		d.aliases = append(d.aliases, alias)
	}
	for _, name := range append([]string{GCPKey}, cfg.GCPKeys...) {
		if !strings.Contains(name, "/") {
			name = GCPKey[:strings.LastIndexByte(GCPKey, '/')+1] + name
		}
		d.names = append(d.names, name)
	}
	if d.aws, err = awskms.Start(awskms.Config{Address: cfg.AWSAddress}); err != nil {
		return nil, &Error{Err: err, Advice: listenAdvice("--aws-listen", err)}
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.gcp, err = gcpkms.Start(ctx, cfg.GCPAddress); err != nil {
		return nil, &Error{Err: err, Advice: listenAdvice("--gcp-listen", err)}
	}
	for _, alias := range d.aliases {
		key, err := d.aws.CreateKey(awskms.KeySpec{})
		if err != nil {
			return nil, err
		}
		d.aws.SetAlias(alias, key)
		d.arns = append(d.arns, key.ARN())
	}
	for _, name := range d.names {
		if err := d.gcp.AddKey(name); err != nil {
			return nil, misused("give each --gcp-key once, as projects/P/locations/L/keyRings/R/cryptoKeys/K or K alone", "%w", err)
		}
	}
	d.gcp.TellTime(0)
	d.GoWrong("all", Trouble{})
	return d, nil
}

// Close stops both servers. Requests under way end with them, as in an outage.
func (d *Servers) Close() {
	if d.aws != nil {
		_ = d.aws.Close() // it only stops
	}
	if d.gcp != nil {
		d.gcp.Close()
	}
}

// Info returns how to reach the servers and their keys.
func (d *Servers) Info() *Info {
	i := &Info{
		Environment: map[string]string{
			"AWS_ACCESS_KEY_ID": awskms.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY": awskms.DefaultSecretAccessKey,
		},
		AWS: AWS{Endpoint: d.aws.URL(), Region: awskms.DefaultRegion},
		GCP: GCP{Endpoint: d.gcp.Addr()},
	}
	for n, alias := range d.aliases {
		i.AWS.Keys = append(i.AWS.Keys, Key{
			Name: numbered("aws", n), Key: alias, ARN: d.arns[n],
			URI: "awskms:///" + alias + "?region=" + i.AWS.Region + "&endpoint=" + i.AWS.Endpoint,
		})
	}
	for n, name := range d.names {
		i.GCP.Keys = append(i.GCP.Keys, Key{
			Name: numbered("gcp", n), Key: name,
			URI: "gcpkms://" + name + "?endpoint=" + i.GCP.Endpoint + "&insecure-plaintext=true",
		})
	}
	return i
}

// numbered names the nth: aws, aws-2, aws-3.
func numbered(name string, n int) string {
	if n == 0 {
		return name
	}
	return name + "-" + strconv.Itoa(n+1)
}

// listenAdvice says what to do about an address that cannot be listened on.
func listenAdvice(flag string, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there, perhaps another waxseal dev kms: stop it, or choose another address with " + flag + "; port 0 takes a free one"
	case errors.Is(err, syscall.EACCES):
		return "choose a port above 1023 with " + flag
	}
	return "it listens on loopback only: give " + flag + " an IP address and a port, such as 127.0.0.1:0"
}

// aliasForm is what AWS lets an alias be, without what AWS keeps for itself.
var aliasForm = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
