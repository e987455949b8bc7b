package awskms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Identity signs requests.
type Identity struct {
	AccessKeyID     string
	SecretAccessKey string
	// SessionToken goes with temporary credentials; empty for lasting ones.
	SessionToken string
	// ARN is what STS's GetCallerIdentity answers, of a user, a role's session or a
	// root; its account is the identity's own. Default user/ and AccessKeyID in
	// DefaultAccount.
	ARN string
	// Expired refuses every request with ExpiredTokenException.
	Expired bool
	// Policy is an IAM policy in JSON: what is not allowed is denied; empty allows
	// everything. SetIdentity documents the part of the language that is understood; a
	// policy with anything else is an error.
	Policy string
}

// identity is an Identity with its policy parsed.
type identity struct {
	id, arn         string
	secret, session string
	expired, all    bool
	statements      []statement
}

// account returns the account that the identity is of.
func (who *identity) account() string { return strings.Split(who.arn, ":")[4] }

func userARN(name string) string { return "arn:aws:iam::" + DefaultAccount + ":user/" + name }

// statement of an IAM policy.
type statement struct {
	Sid       string
	Effect    string
	Action    oneOrMany
	Resource  oneOrMany
	Condition map[string]map[string]oneOrMany
}

// oneOrMany is a list that may be written as a single string.
type oneOrMany []string

func (l *oneOrMany) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*l = make(oneOrMany, 1)
		return json.Unmarshal(b, &(*l)[0])
	}
	return json.Unmarshal(b, (*[]string)(l))
}

const (
	conditionEquals = "StringEquals"
	contextPrefix   = "kms:EncryptionContext:"
)

// SetIdentity adds an identity, or replaces the one of this AccessKeyID. Of
// policies it understands Allow and Deny, lists of actions and key ARNs that may
// end in *, and the condition StringEquals on kms:EncryptionContext:name, which
// is not met by a request without that name.
func (s *Server) SetIdentity(id Identity) error {
	if id.ARN == "" {
		id.ARN = userARN(id.AccessKeyID)
	}
	if len(strings.Split(id.ARN, ":")) < 6 {
		return fmt.Errorf("awsserver: set identity: %q is no ARN", id.ARN)
	}
	who := &identity{id: id.AccessKeyID, arn: id.ARN, secret: id.SecretAccessKey, session: id.SessionToken, expired: id.Expired, all: id.Policy == ""}
	if id.Policy != "" {
		var policy struct {
			Version   string
			Statement []statement
		}
		decoder := json.NewDecoder(bytes.NewReader([]byte(id.Policy)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&policy); err != nil {
			return fmt.Errorf("awsserver: set identity: parse policy: %w", err)
		}
		if decoder.More() {
			return errors.New("awsserver: set identity: something follows the policy")
		}
		for _, st := range policy.Statement {
			if err := st.check(); err != nil {
				return fmt.Errorf("awsserver: set identity: policy: %w", err)
			}
		}
		who.statements = policy.Statement
	}
	if id.AccessKeyID == "" || id.SecretAccessKey == "" {
		return errors.New("awsserver: set identity: it has no access key ID, or no secret")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identities[id.AccessKeyID] = who
	return nil
}

func (st statement) check() error {
	if st.Effect != "Allow" && st.Effect != "Deny" {
		return fmt.Errorf("effect %q", st.Effect)
	}
	if len(st.Action) == 0 || len(st.Resource) == 0 {
		return errors.New("a statement without action or resource")
	}
	for _, pattern := range slices.Concat(st.Action, st.Resource) {
		if strings.ContainsAny(strings.TrimSuffix(pattern, "*"), "*?$") {
			return fmt.Errorf("%q has a * that is not at its end, a ? or a variable", pattern)
		}
	}
	for operator, tests := range st.Condition {
		for name := range tests {
			if operator != conditionEquals || !hasPrefixFold(name, contextPrefix) {
				return fmt.Errorf("condition %s on %s is not understood", operator, name)
			}
		}
	}
	return nil
}

// allows reports whether the identity may do action with the key, as its policy says.
func (who *identity) allows(action, arn string, ec map[string]string) bool {
	allowed := who.all
	for _, st := range who.statements {
		if !st.covers(action, arn, ec) {
			continue
		}
		if st.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (st statement) covers(action, arn string, ec map[string]string) bool {
	if !st.Action.match(action, hasPrefixFold) || !st.Resource.match(arn, strings.HasPrefix) {
		return false
	}
	for name, values := range st.Condition[conditionEquals] {
		met := false
		for key, value := range ec {
			met = met || strings.EqualFold(key, name[len(contextPrefix):]) && slices.Contains(values, value)
		}
		if !met {
			return false
		}
	}
	return true
}

// hasPrefixFold is strings.HasPrefix for what IAM compares without regard to case:
// actions and the names of condition keys, those of encryption contexts included.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// match reports whether a pattern of l fits s. A * stands for any characters and
// may come at the end only, as in "arn:aws:kms:*" or "kms:*"; "*" fits everything.
func (l oneOrMany) match(s string, hasPrefix func(s, prefix string) bool) bool {
	for _, pattern := range l {
		prefix, open := strings.CutSuffix(pattern, "*")
		if hasPrefix(s, prefix) && (open || len(s) == len(prefix)) {
			return true
		}
	}
	return false
}

// denial is an action that Deny took away; a nil key means every key.
type denial struct {
	action string
	key    *Key
}

// Deny refuses an action ("kms:Encrypt") with k, or with every key if k is nil, to all
// identities.
func (s *Server) Deny(action string, k *Key) {
	s.locked(func() { s.denied[denial{action, k}] = true })
}

// Undeny takes Deny back.
func (s *Server) Undeny(action string, k *Key) {
	s.locked(func() { delete(s.denied, denial{action, k}) })
}
