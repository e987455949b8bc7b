// Package awskms wraps data keys with symmetric keys of AWS KMS.
//
// A program names Backend to kms.NewRegistry and opens keys by URI
// (awskms:///arn:aws:kms:…, awskms:///alias/payments?region=eu-west-1), or calls
// New with a Config. Data keys are made by the caller and sent to KMS's Encrypt
// and Decrypt, with the encryption context, in requests that run in parallel
// because AWS KMS has no batches. What is recorded is the key's ARN, whatever
// the URI said.
//
// A Key is also a kms.Rewrapper (ReEncrypt: no data key comes here), a kms.Rotator
// (RotateKeyOnDemand, ListKeyRotations, and what disables, enables, deletes and
// restores the whole key) and a kms.Prober (DescribeKey, and STS for our identity).
//
// The package never lets a ciphertext choose the key that opens it, never creates
// a key, never changes one but through kms.Rotator, never sends a data key over an
// unencrypted network, never retries (package kms/resilience does) and never logs.
// No credential, data key or answer of AWS's is in the text of its errors.
package awskms
