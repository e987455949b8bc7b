package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/doctor"
	"github.com/waxseal/waxseal/internal/payloaddoc"
	"github.com/waxseal/waxseal/internal/terminal"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/policy"
)

// maxCalls bounds the calls of each key over which the latency is measured.
const maxCalls = 1000

const (
	roleWorker      = "worker"
	roleCodecServer = "codec-server"
)

// examination is one run of doctor.
type examination struct {
	app        *app
	keys       source
	names      []string
	namespaces []string
	role       string
	payload    string
	calls      int
	timeout    time.Duration
	asJSON     bool
}

func (a *app) doctorCommand() *cobra.Command {
	e := examination{app: a, keys: source{app: a}}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the keys: reachable, permitted, enforced, how fast",
		Long: `Examine every key of the policy file, with the credentials of this process: can
the KMS be reached, whom does it take us for, does the key wrap and unwrap, does
it enforce the encryption context, do the clocks agree, do the credentials last,
and how long do calls take.

Run it where a worker or a codec server runs, as the same user and with the same
environment. It wraps and unwraps data keys that nothing is sealed with, and
changes nothing.

A codec server that only decodes needs no right to wrap: --role codec-server
takes the lack of it for what it is. Without that right only a payload that was
sealed under the key shows whether it unwraps; give one with --payload.

The exit code is 0 if all keys pass, warnings or not, and 1 if one fails.`,
		Example: `  # All keys of a policy file, as a worker uses them.
  waxseal doctor --config waxseal.yaml

  # Keys of which each namespace has its own, or that only some may use.
  waxseal doctor --config waxseal.yaml --namespace payments --namespace orders

  # As a codec server that only decodes, with a history to open.
  waxseal doctor --role codec-server --payload history.json

  # One key, for a program.
  waxseal doctor --config waxseal.yaml --key default --json`,
		Args: noArguments, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	e.keys.flags(cmd)
	f.StringArrayVar(&e.names, "key", nil, "examine only the key of this `name`; may be repeated")
	f.StringArrayVarP(&e.namespaces, "namespace", "n", nil, "Temporal `namespace` to wrap for (default \""+defaultNamespace+"\"); may be repeated for keys with {namespace} in their URIs")
	f.StringVar(&e.role, "role", roleWorker, "who uses the keys, the `role`: worker, which wraps and unwraps, or codec-server, which may do without wrapping")
	f.StringVar(&e.payload, "payload", "", "`file` with payloads, or a history, sealed under the keys, to unwrap their data keys too; they are not opened")
	f.IntVar(&e.calls, "calls", doctor.DefaultCalls, "`number` of calls that the latency is measured over; 0 for none")
	f.DurationVar(&e.timeout, "timeout", doctor.DefaultTimeout, "how long a KMS may take to answer each question, as a `duration`")
	jsonFlag(cmd, &e.asJSON)
	_ = cmd.MarkFlagFilename("payload", "json")                                                                                                   // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{roleWorker, roleCodecServer}, cobra.ShellCompDirectiveNoFileComp)) // likewise
	return cmd
}

func (e *examination) run(ctx context.Context) error {
	cfg, err := e.settings()
	if err != nil {
		return err
	}
	rules, err := e.keys.rules()
	if err != nil {
		return err
	}
	samples, err := e.samples(ctx)
	if err != nil {
		return err
	}
	keys, err := e.subjects(rules, samples)
	if err != nil {
		return err
	}
	e.warnManyFiles(rules)
	progress := terminal.StartProgress(e.app.err, len(keys), "keys examined")
	defer progress.Stop()
	cfg.Done = func() { progress.Add(1) }
	results, err := doctor.Examine(ctx, keys, cfg)
	progress.Stop()
	if err != nil {
		return err
	}
	e.warnUnused(samples, results)
	report := reportDoctor(e.role, results)
	if err := e.app.show(e.asJSON, report, func(io.Writer) error { return e.app.printDoctor(results) }); err != nil {
		return err
	}
	return report.problem()
}

// settings reads the flags.
func (e *examination) settings() (doctor.Config, error) {
	cfg := doctor.Config{Calls: e.calls, Timeout: e.timeout}
	switch e.role {
	case roleWorker:
	case roleCodecServer:
		cfg.Role = doctor.CodecServer
	default:
		return cfg, &usageError{text: fmt.Sprintf("--role is %q", e.role), hint: "it is one of " + roleWorker + ", " + roleCodecServer}
	}
	switch {
	case e.calls < 0 || e.calls > maxCalls:
		return cfg, &usageError{text: fmt.Sprintf("--calls is %d", e.calls), hint: fmt.Sprintf("give a number from 0 to %d", maxCalls)}
	case e.calls == 0:
		cfg.Calls = -1
	}
	if e.timeout <= 0 {
		return cfg, &usageError{text: "--timeout is not positive", hint: "give a duration such as 10s"}
	}
	return cfg, nil
}

// subjects returns what to examine: each key once, and a template once for each namespace.
func (e *examination) subjects(rules *policy.Policy, samples []doctor.Sample) ([]doctor.Key, error) {
	for _, name := range e.names {
		if _, ok := rules.Keys[name]; !ok {
			return nil, &usageError{text: fmt.Sprintf("there is no key %q", name), hint: "the keys are " + strings.Join(rules.KeyNames(), ", ")}
		}
	}
	var keys []doctor.Key
	backends := registry()
	for _, name := range rules.KeyNames() {
		if len(e.names) > 0 && !slices.Contains(e.names, name) {
			continue
		}
		key, namespaces := rules.Keys[name], e.namespaces
		switch {
		case !key.Templated() && len(namespaces) == 0:
			namespaces = []string{defaultNamespace}
		case !key.Templated():
			namespaces = namespaces[:1]
		case len(namespaces) == 0:
			return nil, &usageError{text: fmt.Sprintf("key %q is another one for each namespace", name), hint: "say for which to examine it with --namespace, or name other keys with --key"}
		}
		for _, namespace := range namespaces {
			uri, err := key.Expand(namespace)
			if err != nil {
				return nil, err
			}
			keys = append(keys, doctor.Key{
				Name: name, Namespace: namespace, URI: shownURI(uri), Open: opener(backends, uri),
				Context: envelope.Claims{Namespace: namespace}.EncryptionContext(), Samples: samples,
			})
		}
	}
	return keys, nil
}

// warnManyFiles warns of local keys that make a keyring file for each namespace in a request.
func (e *examination) warnManyFiles(rules *policy.Policy) {
	for _, name := range rules.KeyNames() {
		key := rules.Keys[name]
		path, _, _ := strings.Cut(key.URI, "#")
		if len(e.names) > 0 && !slices.Contains(e.names, name) || !strings.HasPrefix(path, localkms.Scheme+"://") {
			continue
		}
		if (policy.Key{Name: name, URI: path}).Templated() {
			e.app.say(severityWarning, fmt.Sprintf("key %s makes a keyring file for each namespace that it is asked for: {namespace} is in the path", name))
			e.app.say(severityHint, "put {namespace} into the name, as in local:///var/lib/waxseal/keyring#tenant-{namespace}")
		}
	}
}

// shownURI is a URI without its query, which may hold a credential by mistake.
func shownURI(uri string) string {
	u, err := kms.ParseURI(uri)
	if err != nil {
		return "a URI that is none"
	}
	return kms.Redact(u)
}

// opener opens a key. It makes no local keyring: a key that does not exist was never used.
func opener(backends *kms.Registry, uri string) func(context.Context) (kms.Key, error) {
	return func(ctx context.Context) (kms.Key, error) {
		if u, err := kms.ParseURI(uri); err == nil && u.Scheme == localkms.Scheme && u.Host == "" && u.Fragment != "" {
			ring, err := localkms.OpenKeyring(u.Path)
			if err != nil {
				return nil, err
			}
			if _, there, err := find(ring, u.Fragment); err != nil || !there {
				return nil, errors.Join(err, &kms.Error{
					Class: kms.NotFound, Op: "open", KeyID: kms.Redact(u), Detail: fmt.Sprintf("there is no key %q in the keyring %s yet", u.Fragment, u.Path),
					Advice: "sealing something makes it, and so does waxseal keys create " + u.Fragment + " --keyring " + u.Path,
				})
			}
		}
		return backends.Open(ctx, uri)
	}
}

// samples reads the wrapped data keys of --payload.
func (e *examination) samples(ctx context.Context) ([]doctor.Sample, error) {
	if e.payload == "" {
		return nil, nil
	}
	text, err := e.app.read(ctx, []string{e.payload})
	if err != nil {
		return nil, err
	}
	doc, err := payloaddoc.Parse(text, codec.Encoding)
	if err != nil {
		return nil, err
	}
	var samples []doctor.Sample
	for _, found := range doc.Found {
		names := codec.KeyIDs(found.Payload)
		env, err := format.Parse(found.Payload.GetData())
		if !isSealed(found) || err != nil || names == nil {
			continue
		}
		if _, err := env.KeyIDs(names); err != nil {
			continue
		}
		ec := envelope.ClaimsOf(env.Header).EncryptionContext()
		for i, r := range env.Recipients {
			id, number := kms.SplitVersionedID(names[i])
			samples = append(samples, doctor.Sample{
				KeyID: id, Wrapped: kms.Wrapped{Version: number, Blob: r.WrappedKey}, Context: ec, Right: env.CommitsTo,
			})
		}
	}
	if len(samples) == 0 {
		return nil, advise(fmt.Errorf("there is no sealed payload in %s", e.payload), "give one that waxseal encode, a worker, or temporal workflow show -o json wrote")
	}
	return samples, nil
}

// warnUnused warns if none of the keys that could be opened has wrapped any of samples.
func (e *examination) warnUnused(samples []doctor.Sample, results []doctor.Result) {
	var needed []string
	for _, s := range samples {
		if slices.ContainsFunc(results, func(r doctor.Result) bool { return r.ID == "" || r.ID == s.KeyID }) {
			return
		}
		if !slices.Contains(needed, s.KeyID) {
			needed = append(needed, s.KeyID)
		}
	}
	if len(needed) > 0 {
		e.app.say(severityWarning, "no payload in "+e.payload+" is sealed under these keys; they need "+strings.Join(needed, ", "))
	}
}
