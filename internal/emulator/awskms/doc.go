// Package awskms is AWS KMS on loopback for tests and development: what
// speaks to it is the real AWS client, over HTTP, with signed requests.
//
// It answers the operations that envelope encryption and key rotation need, with
// the semantics that AWS documents:
//
//   - Encrypt, Decrypt, ReEncrypt, GenerateDataKey and
//     GenerateDataKeyWithoutPlaintext, with real cryptography: encryption contexts
//     are enforced, each ciphertext is bound to its key, dry runs are rehearsed,
//     and sizes are those of AWS;
//   - CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey,
//     ScheduleKeyDeletion and CancelKeyDeletion, with the states of keys;
//   - CreateAlias, UpdateAlias, DeleteAlias and ListAliases;
//   - RotateKeyOnDemand, which may take its time (SetRotationTime), ListKeyRotations,
//     GetKeyRotationStatus, EnableKeyRotation and DisableKeyRotation;
//   - GetCallerIdentity of STS.
//
// Several Regions and accounts share one address; KeySpec.MultiRegion and Replicate make
// multi-Region keys. Signature Version 4 is verified in full. Each Identity may have an IAM
// policy, so that tests can try out what a policy permits.
//
// Faults come on command, with Script, SetFault, SetLatency, SetClock and Stop:
// latency, stalls, resets, throttling, outages, answers of strangers, and answers
// that lie. Requests are counted.
//
// Ciphertexts look like none of AWS's and open nowhere else. Key policies and grants,
// asymmetric cryptography, imported key material and tags are not served: requests for them
// are refused with AWS's own error codes.
//
// Tests of KMS clients and development commands call it. It is no place for secrets: keys
// live in memory and are gone when the server ends, and nothing is hardened against other
// programs that can reach it. It never listens beyond loopback.
package awskms
