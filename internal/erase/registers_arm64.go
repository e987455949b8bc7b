package erase

// clearRegisters zeroes the vector registers. Copies, SHA-256 and AES leave keys in them until other code needs the
// register, and every signal meanwhile saves them to memory. In Go the caller of a function saves registers.
//
//go:noescape
func clearRegisters()
