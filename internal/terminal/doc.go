// Package terminal writes for people: tables, sparklines, colours where they are wanted,
// progress where someone is watching, and names from elsewhere with everything
// escaped that a terminal would obey.
//
// The command line calls it. It writes only to what it is given, and never
// colours or animates what is not a terminal.
package terminal
