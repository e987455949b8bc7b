// Package terminal formats output for people: tables, sparklines, colours and progress on
// terminals that show them, and names from elsewhere without what a terminal would obey.
//
// The command line calls it. It writes only to the streams it is given, and never colours
// or animates what is not a terminal.
package terminal
