package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

// devServers are the two servers of "dev kms".
type devServers struct {
	aws     *awsserver.Server
	gcp     *gcpserver.Server
	aliases []string // in AWS KMS
	arns    []string // of the keys that they name
	names   []string // in Google Cloud KMS
	latency time.Duration
}

// startDevKMS starts both servers, with their keys.
func startDevKMS(ctx context.Context, f *devKMSFlags) (_ *devServers, err error) {
	d := &devServers{latency: f.latency}
	for _, alias := range append([]string{devAWSAlias}, f.awsAliases...) {
		if !strings.HasPrefix(alias, "alias/") {
			alias = "alias/" + alias
		}
		if !aliasForm.MatchString(alias) {
			return nil, &usageError{text: fmt.Sprintf("--aws-alias %q is no alias", alias), hint: "an alias has letters, digits, /, _ and -, as in alias/orders"}
		}
		if slices.Contains(d.aliases, alias) {
			return nil, &usageError{text: fmt.Sprintf("--aws-alias %q is there already", alias), hint: "give each alias once; " + devAWSAlias + " is always there"}
		}
		d.aliases = append(d.aliases, alias)
	}
	for _, name := range append([]string{devGCPKey}, f.gcpKey...) {
		if !strings.Contains(name, "/") {
			name = devGCPKey[:strings.LastIndexByte(devGCPKey, '/')+1] + name
		}
		d.names = append(d.names, name)
	}
	if d.aws, err = awsserver.Start(awsserver.Config{Address: f.aws}); err != nil {
		return nil, advise(err, devListenHint("--aws-listen", err))
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.gcp, err = gcpserver.Start(ctx, f.gcp); err != nil {
		return nil, advise(err, devListenHint("--gcp-listen", err))
	}
	for _, alias := range d.aliases {
		key, err := d.aws.CreateKey(awsserver.KeySpec{})
		if err != nil {
			return nil, err
		}
		d.aws.SetAlias(alias, key)
		d.arns = append(d.arns, key.ARN())
	}
	for _, name := range d.names {
		if err := d.gcp.AddKey(name); err != nil {
			return nil, &usageError{text: err.Error(), hint: "give each --gcp-key once, as projects/P/locations/L/keyRings/R/cryptoKeys/K or K alone"}
		}
	}
	d.gcp.TellTime(0)
	d.goWrong("all", trouble{})
	return d, nil
}

func (d *devServers) close() {
	if d.aws != nil {
		_ = d.aws.Close() // requests under way end with it, as in an outage
	}
	if d.gcp != nil {
		d.gcp.Close()
	}
}

func (d *devServers) info() *devInfo {
	i := &devInfo{
		Environment: map[string]string{
			"AWS_ACCESS_KEY_ID": awsserver.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY": awsserver.DefaultSecretAccessKey,
		},
		AWS: devAWS{Endpoint: d.aws.URL(), Region: awsserver.DefaultRegion},
		GCP: devGCP{Endpoint: d.gcp.Addr()},
	}
	for n, alias := range d.aliases {
		i.AWS.Keys = append(i.AWS.Keys, devKey{
			Name: numbered("aws", n), Key: alias, ARN: d.arns[n],
			URI: "awskms:///" + alias + "?region=" + i.AWS.Region + "&endpoint=" + i.AWS.Endpoint,
		})
	}
	for n, name := range d.names {
		i.GCP.Keys = append(i.GCP.Keys, devKey{
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

// trouble is what goes wrong with every request; the zero value is nothing.
type trouble struct {
	kind troubleKind
	slow time.Duration // beyond the latency of every answer
}

type troubleKind uint8

const (
	healthy troubleKind = iota
	down
	denied
	stalled
	throttled
)

// goWrong has trouble befall the servers of which: aws, gcp or all.
func (d *devServers) goWrong(which string, t trouble) {
	if which != "gcp" {
		d.aws.SetFault(awsserver.AllOperations, t.aws(d.latency))
	}
	if which != "aws" {
		d.gcp.ClearFaults()
		d.gcp.Inject(t.gcp(d.latency))
		if t.kind == down {
			d.gcp.DropConnections()
		}
	}
}

func (t trouble) aws(latency time.Duration) awsserver.Fault {
	f := awsserver.Fault{}
	switch t.kind {
	case healthy:
	case down:
		return awsserver.Fault{Reset: true}
	case denied:
		f = awsserver.Fault{Code: "AccessDeniedException", Message: "rehearsed"}
	case stalled:
		f.Stall = true
	case throttled:
		f = awsserver.Throttle()
	}
	f.Latency = latency + t.slow
	return f
}

func (t trouble) gcp(latency time.Duration) gcpserver.Fault {
	f := gcpserver.Fault{Latency: latency + t.slow}
	switch t.kind {
	case healthy:
	case down:
		return gcpserver.Fault{Code: codes.Unavailable, Message: "rehearsed"}
	case denied:
		f.Code = codes.PermissionDenied
	case stalled:
		f.Stall = true
	case throttled:
		f.Code = codes.ResourceExhausted
	}
	return f
}
