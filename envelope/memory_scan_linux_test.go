package envelope_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
)

// pieceSize is how many bytes of a secret are looked for together: half a key, a round
// key of AES, a vector register. By chance they occur nowhere.
const pieceSize = 16

// needle is a secret, and a word for its shape.
type needle struct {
	Shape string
	// Secret is looked for in separate pieces of pieceSize bytes from its start; a shorter last
	// piece is ignored.
	Secret []byte
}

// tally is how many pieces of needles there are in memory, by shape.
type tally struct {
	Pieces map[string]int
	// Bytes is how much memory was searched.
	Bytes int64
}

// String lists what was found.
func (f tally) String() string {
	shapes := make([]string, 0, len(f.Pieces))
	for shape, n := range f.Pieces {
		shapes = append(shapes, fmt.Sprintf("%s: %d", shape, n))
	}
	slices.Sort(shapes)
	return strings.Join(shapes, ", ")
}

// haystack finds many pieces at once: at nearly every place the first two bytes rule out
// all of them.
type haystack struct {
	begins [1 << 16]bool
	shapes map[[pieceSize]byte]string
}

func newHaystack(needles []needle) *haystack {
	h := &haystack{shapes: make(map[[pieceSize]byte]string)}
	for _, n := range needles {
		for s := n.Secret; len(s) >= pieceSize; s = s[pieceSize:] {
			if piece := [pieceSize]byte(s); piece != [pieceSize]byte{} {
				h.begins[int(s[0])<<8|int(s[1])] = true
				h.shapes[piece] = n.Shape
			}
		}
	}
	return h
}

func (h *haystack) search(b []byte, found *tally) {
	for i := 0; i+pieceSize <= len(b); i++ {
		if !h.begins[int(b[i])<<8|int(b[i+1])] {
			continue
		}
		if shape, ok := h.shapes[[pieceSize]byte(b[i:])]; ok {
			found.Pieces[shape]++
		}
	}
}

// scan looks for needles, at any offset, in all memory that the process may write:
// heap, stacks of goroutines and threads, and global variables. Read-only memory comes from
// files.
func scan(pid int, needles []needle) (tally, error) {
	found := tally{Pieces: make(map[string]int)}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return found, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return found, err
	}
	defer func() { _ = mem.Close() }() // only read from
	pages, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return found, err
	}
	defer func() { _ = pages.Close() }() // only read from
	h := newHaystack(needles)
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		var from, to uint64
		var may string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &may); err != nil {
			return found, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if !strings.HasPrefix(may, "rw") {
			continue
		}
		if err := h.searchRange(memory{mem, pages}, from, to, &found); err != nil {
			return found, fmt.Errorf("%q: %w", lines.Text(), err)
		}
	}
	return found, lines.Err()
}

// memory is a process's memory, and its page table.
type memory struct{ bytes, pages *os.File }

// touched reports whether any page of the n bytes from at was ever written to; others are
// zero. Most of the gigabytes that runtimes reserve never are.
func (m memory) touched(at uint64, n int) (bool, error) {
	const entry, inMemory, swappedOut = 8, 1 << 63, 1 << 62 // proc_pid_pagemap(5)
	size := os.Getpagesize()
	entries := make([]byte, entry*((n+size-1)/size))
	if _, err := m.pages.ReadAt(entries, int64(at)/int64(size)*entry); err != nil {
		return false, err
	}
	for ; len(entries) > 0; entries = entries[entry:] {
		if binary.NativeEndian.Uint64(entries)&(inMemory|swappedOut) != 0 {
			return true, nil
		}
	}
	return false, nil
}

// searchRange searches mem from one address to another, in parts that overlap.
func (h *haystack) searchRange(mem memory, from, to uint64, found *tally) error {
	const part, overlap = 64 << 10, pieceSize - 1
	nothing := make([]byte, overlap+part)
	buf := make([]byte, overlap+part)
	for at := from; at < to; at += part {
		n := int(min(part, to-at))
		found.Bytes += int64(n)
		touched, err := mem.touched(at, n)
		if err != nil {
			return fmt.Errorf("page table at %x: %w", at, err)
		}
		if !touched {
			clear(buf[:overlap])
			continue
		}
		if _, err := mem.bytes.ReadAt(buf[overlap:][:n], int64(at)); err != nil {
			return fmt.Errorf("read at %x: %w", at, err)
		}
		if b := buf[:overlap+n]; !bytes.Equal(b, nothing[:len(b)]) {
			h.search(b, found)
		}
		copy(buf[:overlap], buf[n:][:overlap])
	}
	return nil
}
