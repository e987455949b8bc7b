package erase

import (
	"crypto/aes"
	"crypto/cipher"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// Crypto zeroes the key schedules and tables in AES ciphers and GCMs of the standard library. They have no method for
// it, and the garbage collector does not clear what it frees. Each object belongs to the caller, was made by crypto/aes
// or crypto/cipher, and is not used afterwards; Crypto ignores anything else, and nil. It is safe for concurrent use
// with different objects.
//
// It relies on the layout of the objects in the versions of Go that layoutsKnown names, and does nothing in others,
// where an array of one object may have become a table that all share. The package's tests fail then.
func Crypto(objects ...any) {
	for _, o := range objects {
		for _, p := range layouts[reflect.TypeOf(o)] {
			p.clear(pointer(reflect.ValueOf(o)).UnsafePointer())
		}
	}
}

// place is where an object keeps parts of a key: size bytes at offset at, behind the pointers at the offsets hops.
type place struct {
	hops     []uintptr
	at, size uintptr
}

func (p place) clear(object unsafe.Pointer) {
	for _, hop := range p.hops {
		if object == nil {
			return
		}
		object = *(*unsafe.Pointer)(unsafe.Add(object, hop))
	}
	if object != nil {
		clear(unsafe.Slice((*byte)(unsafe.Add(object, p.at)), p.size)) //nolint:gosec // the array's own memory: places has it from the type
	}
}

// layouts holds the places of each type of cipher. Reflection at each use would cost more
// than encrypting a small payload.
var layouts = findLayouts()

func findLayouts() map[reflect.Type][]place {
	if !layoutsKnown {
		return nil
	}
	known := make(map[reflect.Type][]place)
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil
	}
	objects := []any{block}
	for _, made := range []func(cipher.Block) (cipher.AEAD, error){cipher.NewGCM, cipher.NewGCMWithRandomNonce} {
		if aead, err := made(block); err == nil { // FIPS 140 mode knows only one of them
			objects = append(objects, aead)
		}
	}
	for _, o := range objects {
		if p := pointer(reflect.ValueOf(o)); p.Kind() == reflect.Pointer && keepsKeys(p.Type().Elem()) {
			known[reflect.TypeOf(o)] = places(p.Type().Elem(), nil, 0)
		}
	}
	return known
}

// pointer returns an object's pointer: the object itself, or the only field of a struct.
func pointer(object reflect.Value) reflect.Value {
	if object.Kind() == reflect.Struct && object.NumField() == 1 {
		return object.Field(0)
	}
	return object
}

// places returns the arrays of numbers in a struct, at an offset behind hops, and in what
// it points to. Single numbers are sizes.
func places(t reflect.Type, hops []uintptr, offset uintptr) (out []place) {
	for f := range t.Fields() {
		at := offset + f.Offset
		switch {
		case f.Type.Kind() == reflect.Struct:
			out = append(out, places(f.Type, hops, at)...)
		case f.Type.Kind() == reflect.Pointer && keepsKeys(f.Type.Elem()):
			out = append(out, places(f.Type.Elem(), append(slices.Clip(hops), at), 0)...)
		case f.Type.Kind() == reflect.Array && isNumber(f.Type.Elem().Kind()):
			out = append(out, place{hops: hops, at: at, size: f.Type.Size()})
		}
	}
	return out
}

func isNumber(k reflect.Kind) bool { return k >= reflect.Uint8 && k <= reflect.Uint64 }

// keepsKeys reports whether a type is a part of the ciphers.
func keepsKeys(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && (t.PkgPath() == "crypto/cipher" || strings.HasPrefix(t.PkgPath(), "crypto/internal/fips140/"))
}
