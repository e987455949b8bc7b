package erase

import (
	"reflect"
	"strings"
	"unsafe"
)

// Crypto zeroes what ciphers, MACs and hashes of the standard library keep of
// their keys and inputs: key schedules, pads, states. They have no method for it,
// and what the garbage collector frees it does not clear. Each object belongs to
// the caller, was made by crypto/aes, crypto/cipher, crypto/hmac or crypto/sha256,
// and is not used afterwards; of anything else, a nil too, nothing is touched.
//
// It goes by what the objects look like in this version of Go; the package's tests
// find out when that changes.
func Crypto(objects ...any) {
	for _, o := range objects {
		zeroOwn(reflect.ValueOf(o))
	}
}

// zeroOwn zeroes what v leads to, if that is a struct of the standard library's
// cryptography.
func zeroOwn(v reflect.Value) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct && keepsKeys(v.Type().PkgPath()) {
		zeroFields(v)
	}
}

// zeroFields clears all arrays and slices of numbers in v and in what it points to.
func zeroFields(v reflect.Value) {
	for _, f := range v.Fields() {
		switch f.Kind() {
		case reflect.Struct:
			zeroFields(f)
		case reflect.Pointer, reflect.Interface:
			zeroOwn(f)
		case reflect.Slice:
			if elem := f.Type().Elem(); isNumber(elem.Kind()) && f.Cap() > 0 {
				clear(unsafe.Slice((*byte)(f.UnsafePointer()), uintptr(f.Cap())*elem.Size())) //nolint:gosec // the slice's own memory, in bytes
			}
		case reflect.Array:
			if t := f.Type(); isNumber(t.Elem().Kind()) && f.CanAddr() {
				clear(unsafe.Slice((*byte)(unsafe.Pointer(f.UnsafeAddr())), t.Size())) //nolint:gosec // the array's own memory, in bytes
			}
		default: // single numbers, of which ciphers keep sizes
		}
	}
}

func isNumber(k reflect.Kind) bool { return k >= reflect.Uint8 && k <= reflect.Uint64 }

// keepsKeys reports whether the types of a package are those that the ciphers and
// hashes are made of.
func keepsKeys(pkg string) bool {
	return pkg == "crypto/cipher" || strings.HasPrefix(pkg, "crypto/internal/fips140/")
}
