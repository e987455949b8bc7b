package e2e

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // the driver that the Temporal server has too
)

// readDatabase returns all values of all tables, by table and column, and the
// bytes of the files themselves: with what was deleted and not yet overwritten.
// Values are read through SQLite because it splits long ones over pages.
func readDatabase(t *testing.T, file string) map[string][][]byte {
	t.Helper()
	stored := make(map[string][][]byte)
	files, err := filepath.Glob(file + "*") // with -wal, -shm and -journal, if they are
	if err != nil || len(files) == 0 {
		t.Fatalf("the database's files: %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		stored[filepath.Base(f)] = [][]byte{b}
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: "mode=ro"}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tables := query(t, db, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if len(tables["name"]) < 20 {
		t.Fatalf("only %d tables", len(tables["name"]))
	}
	for _, table := range tables["name"] {
		for column, values := range query(t, db, fmt.Sprintf("SELECT * FROM %q", table)) {
			stored["table "+string(table)+", column "+column] = values
		}
	}
	return stored
}

// query returns the values of a query's columns.
func query(t *testing.T, db *sql.DB, statement string) map[string][][]byte {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][][]byte)
	for rows.Next() {
		row, into := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, column := range columns {
			values[column] = append(values[column], append([]byte(nil), row[i]...))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}
