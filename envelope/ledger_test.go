package envelope_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// countedKey is a Fake that records each data key and the time of its wrap. It puts a
// number behind each blob, so that an envelope shows which data key sealed it.
type countedKey struct {
	*kmstest.Fake

	mu      sync.Mutex
	made    []int64  // in nanoseconds since 1970, by number
	digests []uint64 // of the data keys, by number; in 2·10^7 of them two are alike by chance once in 10^5 runs
}

func newCountedKey() *countedKey { return &countedKey{Fake: kmstest.NewFake("a")} }

func (k *countedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	wrapped, err := k.Fake.Wrap(ctx, dataKeys, ec)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range wrapped {
		wrapped[i].Blob = binary.BigEndian.AppendUint32(wrapped[i].Blob, uint32(len(k.made)))
		sum := sha256.Sum256(dataKeys[i])
		k.made, k.digests = append(k.made, time.Now().UnixNano()), append(k.digests, binary.BigEndian.Uint64(sum[:]))
	}
	return wrapped, err
}

// madeAt returns when a data key was wrapped.
func (k *countedKey) madeAt(number uint32) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Unix(0, k.made[number])
}

// count returns how many data keys were wrapped.
func (k *countedKey) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.made)
}

// repeats returns how many data keys came more than once.
func (k *countedKey) repeats() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return repeats(k.digests, cmp.Compare[uint64])
}

// repeats sorts s and returns how many of it equal the one before.
func repeats[T comparable](s []T, compare func(a, b T) int) (n int) {
	slices.SortFunc(s, compare)
	for i := 1; i < len(s); i++ {
		if s[i] == s[i-1] {
			n++
		}
	}
	return n
}

// nonceSize is that of AES-GCM.
const nonceSize = 12

// mark is what one seal must share with no other under the same data key.
type mark struct {
	salt  [format.SaltSize]byte
	nonce [nonceSize]byte
}

// readMark returns the number of the data key that sealed an envelope, and the mark.
func readMark(t testing.TB, sealed []byte) (number uint32, m mark) {
	t.Helper()
	e, err := format.Parse(sealed)
	if err != nil {
		t.Error(err)
		return 0, m
	}
	blob := e.Recipients[0].WrappedKey
	m.salt = e.Salt
	copy(m.nonce[:], sealed[len(sealed)-e.CiphertextSize():])
	return binary.BigEndian.Uint32(blob[len(blob)-4:]), m
}

// ledger counts what each data key seals, and keeps the marks of those that may
// still seal more: once a key has reached its limit they are compared, and let
// go. So 10^8 seals fit in memory.
type ledger struct {
	key         *countedKey
	maxPayloads int

	mu     sync.Mutex
	counts []int32 // by number
	live   map[uint32][]mark
	seals  int
	salts  int // that came twice under one data key
	nonces int // that came twice under one data key
	over   int // seals past the limit
}

func newLedger(key *countedKey, maxPayloads int) *ledger {
	return &ledger{key: key, maxPayloads: maxPayloads, live: make(map[uint32][]mark)}
}

// add notes what one call sealed.
func (l *ledger) add(t testing.TB, sealed []envelope.Sealed) {
	t.Helper()
	numbers, marks := make([]uint32, len(sealed)), make([]mark, len(sealed))
	for i, s := range sealed {
		numbers[i], marks[i] = readMark(t, s.Envelope)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, number := range numbers {
		if n := int(number) + 1 - len(l.counts); n > 0 {
			l.counts = append(l.counts, make([]int32, n)...)
		}
		l.seals++
		l.counts[number]++
		switch n := int(l.counts[number]); {
		case n > l.maxPayloads:
			l.over++
		case l.maxPayloads == 1: // alone under its data key: nothing to compare with
		default:
			l.live[number] = append(l.live[number], marks[i])
			if n == l.maxPayloads {
				l.compare(number)
			}
		}
	}
}

// compare looks for repeats under one data key, and forgets its marks.
func (l *ledger) compare(number uint32) {
	marks := l.live[number]
	delete(l.live, number)
	salts, nonces := make([][format.SaltSize]byte, len(marks)), make([][nonceSize]byte, len(marks))
	for i, m := range marks {
		salts[i], nonces[i] = m.salt, m.nonce
	}
	l.salts += repeats(salts, func(a, b [format.SaltSize]byte) int { return bytes.Compare(a[:], b[:]) })
	l.nonces += repeats(nonces, func(a, b [nonceSize]byte) int { return bytes.Compare(a[:], b[:]) })
}

// close compares what is left, and reports all that was found.
func (l *ledger) close(t testing.TB, wantSeals int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for number := range l.live {
		l.compare(number)
	}
	if l.seals != wantSeals {
		t.Errorf("%d seals, want %d", l.seals, wantSeals)
	}
	if n := l.key.repeats(); n > 0 {
		t.Errorf("%d data keys were made more than once", n)
	}
	if l.salts > 0 {
		t.Errorf("%d salts came again under the same data key, and with them its payload key", l.salts)
	}
	if l.nonces > 0 {
		t.Errorf("%d nonces came again under the same data key", l.nonces)
	}
	if l.over > 0 {
		t.Errorf("%d seals past the limit of %d for one data key", l.over, l.maxPayloads)
	}
}
