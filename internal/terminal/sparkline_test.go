package terminal

import "testing"

func TestSparkline(t *testing.T) {
	for _, tc := range []struct {
		name    string
		values  []int
		columns int
		utf8    bool
		want    string
	}{
		{"none", nil, 10, true, ""},
		{"zeros", []int{0, 0}, 10, true, "▁▁"},
		{"all levels", []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, 10, true, "▁▂▃▄▅▆▇██"},
		{"ASCII", []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, 10, false, "_.-:=+*##"},
		{"one peak", []int{1, 1, 100, 1}, 10, true, "▁▁█▁"},
		{"even", []int{20, 21, 20}, 10, true, "███"},
		{"more than there is room for", []int{1, 1, 1, 100, 1, 1, 1}, 3, true, "▁█▁"},
		{"no room", []int{1, 2}, 0, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Sparkline(tc.values, tc.columns, tc.utf8); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestUTF8(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"nothing", nil, false},
		{"LANG", map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{"C.utf8", map[string]string{"LANG": "C.utf8"}, true},
		{"macOS", map[string]string{"LC_CTYPE": "UTF-8"}, true},
		{"C", map[string]string{"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, false},
		{"empty counts as unset", map[string]string{"LC_ALL": "", "LANG": "de_DE.UTF-8"}, true},
		{"Latin-1", map[string]string{"LC_CTYPE": "de_DE.ISO-8859-1", "LANG": "de_DE.UTF-8"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lookup := func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok }
			if got := UTF8(lookup); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
