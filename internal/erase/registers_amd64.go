package erase

import "golang.org/x/sys/cpu"

// clearRegisters zeroes the vector registers, through which copies, SHA-256 and AES
// pass keys. They stay there until something else needs the register, and every
// signal meanwhile saves them to memory. Go has functions save their own.
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
