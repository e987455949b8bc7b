package erase

// clearRegisters zeroes the vector registers, through which copies, SHA-256 and AES
// pass keys. They stay there until something else needs the register, and every
// signal meanwhile saves them to memory. Go has functions save their own.
//
//go:noescape
func clearRegisters()
