// Package localkms keeps key-encryption keys in a file: the KMS for development, for tests
// and for an installation of one machine. A program that reads the file can open everything
// that was sealed under it. So the package promises less than a real KMS does, and what it
// can about the file itself.
//
// Programs pass Backend to kms.NewRegistry and name keys by URI,
//
//	local:///var/lib/waxseal/keyring#payments
//
// an absolute path and a key's name. Opening a key makes the file if there is none, and the
// last folder of its path; the key itself is made when it first wraps, so that opening keys
// by name never grows the file (in a template, put {namespace} into the name and not into
// the path). Envelopes record the keyring's own ID and the name,
// "local://k5ptxzjqm2dcv7wr/payments", never the path: a keyring may be moved. Keyring is
// the same file for its administrators: list, create, rotate, disable, enable, destroy,
// restore. A Key does the same for itself, as a kms.Rotator and kms.Retirer; it is a
// kms.Rewrapper, which takes from every other local key, and a kms.Prober.
//
// # The file
//
// JSON, mode 0600, at most 8 MiB:
//
//	{
//	  "waxsealKeyring": 1,
//	  "id": "k5ptxzjqm2dcv7wr",
//	  "keys": {
//	    "payments": {
//	      "primary": 2,
//	      "versions": [
//	        {"version": 1, "created": "2026-01-31T08:00:00Z", "state": "disabled", "material": "…"},
//	        {"version": 2, "created": "2026-02-28T08:00:00Z", "state": "enabled", "material": "…"}
//	      ]
//	    }
//	  }
//	}
//
// waxsealKeyring is the version of this format. id is 80 random bits in lower-case base32
// (RFC 4648). Versions ascend; primary is the one that wraps; material is an AES-256 key in
// base64. A version in the state "pending destruction" has a destroyAt before its material,
// a time like created. From that time on nothing opens with the version, and the next
// change of the keyring, by any program, leaves it there as "destroyed", without material.
// Copies of the file, and what a disk keeps of deleted ones, are beyond this package. The
// parser refuses what it does not know, and what this package would not write back the
// same: so a rewrite loses nothing, and a file that is not understood is never written to.
//
// The package refuses a file that group or others may read or write, that
// belongs to another user or is not a regular file, and one in a folder where
// others may write and no sticky bit keeps them from replacing it. A symbolic
// link is followed, and its target held to the same.
//
// A change is written to a temporary file in the same folder, synced, renamed
// over the old one, and the folder is synced. Changes of several processes take
// turns by a lock (flock) on "<file>.lock", which stays behind; each reads the
// file again once it has the lock. Readers need no lock. A key looks at the file
// at every call, so rotating or disabling it bites at once, in every process.
//
// # Wrapping
//
// AES-256-GCM (SP 800-38D) with a random nonce. A wrapped data key has 65 bytes:
//
//	1 (format) || version (uint32, big endian) || nonce (12) || ciphertext (32) || tag (16)
//
// The associated data is the key's ID, the first five bytes of the blob, and
// kms.Context.AssociatedData, each after its length as four big-endian bytes. A
// version should wrap no more than 2^32 data keys (SP 800-38D, 8.3): rotate long
// before. Everything runs under GODEBUG=fips140=only.
//
// # Classes of errors
//
//	NotFound     no such key or version; the version was destroyed; the file was
//	             replaced by another keyring
//	Disabled     the version is switched off, or waits for its destruction
//	Corrupt      the blob was altered or belongs to another key or context
//	Denied       the file or its folder is not ours alone, or may not be accessed
//	Unavailable  the file is busy, cannot be read or written, or is not understood
//	Canceled     the caller's context ended
//	Invalid      there is no file at the path; a bad URI or name; an operation that
//	             the version's state does not permit, such as destroying what is enabled
//	Internal     a data key of the wrong length, a closed key, rewrapping from
//	             another KMS
//
// Key material is wiped as soon as ciphers are made of it. A cipher's own copy
// cannot be wiped in Go: closing a Key leaves it to the garbage collector.
//
// Systems without Unix permissions and flock are refused: there the package
// could not keep what it promises.
package localkms
