package erase

import "golang.org/x/sys/cpu"

// clearRegisters zeroes the vector registers. Copies, SHA-256 and AES leave keys in them until other code needs the
// register, and every signal meanwhile saves them to memory. In Go the caller of a function saves registers.
func clearRegisters() {
	if cpu.X86.HasAVX {
		clearVectors()
	} else {
		clearVectorsSSE()
	}
}

//go:noescape
func clearVectors()

//go:noescape
func clearVectorsSSE()
