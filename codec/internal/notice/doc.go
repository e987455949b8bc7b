// Package notice logs what a worker must not fail at silently: payloads that a KMS or the policy
// refuses, and workflow tasks that wait for a KMS. The SDK logs some of them, with a stack trace,
// and drops others.
//
// It logs the same refusal of the same key once a minute, and no text but that of a *kms.Error,
// which quotes no payload.
package notice
