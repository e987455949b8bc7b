package format_test

// pattern returns n bytes that are neither constant nor zero and differ by seed.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)*31 + byte(i>>8) + 1
	}
	return b
}
