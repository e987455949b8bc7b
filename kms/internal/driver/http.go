package driver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Send makes the HTTP request that next returns. An idle connection may be closed already,
// by a restart or by a balancer, which is no failure of the KMS: Send then calls next again
// and uses a new connection, unless once says that a second request does harm.
func Send(ctx context.Context, client *http.Client, once bool, next func(context.Context) (*http.Request, error)) (*http.Response, error) {
	reused := false
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	for again := once; ; again = true {
		request, err := next(traced)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(request)
		if err == nil {
			return answer, nil
		}
		if again || !reused || ctx.Err() != nil {
			return nil, err
		}
		client.CloseIdleConnections() // the others are likely closed as well
	}
}

// maxRetryAfter bounds the pause that an answer may demand. A wrong clock, or a stranger on
// the way, must not keep us away for days.
const maxRetryAfter = time.Hour

// RetryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a date,
// which is compared with sent, the answer's own Date, where it has one, so that our
// clock does not matter. Zero if it says nothing of use.
func RetryAfter(value, sent string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		if date, err := http.ParseTime(sent); err == nil {
			now = date
		}
		wait = at.Sub(now)
	}
	return BoundRetryAfter(wait)
}

// BoundRetryAfter returns wait within the bounds of what we believe.
func BoundRetryAfter(wait time.Duration) time.Duration { return min(max(wait, 0), maxRetryAfter) }

// ParseAddress checks that address can be that of a KMS. what is what the user calls
// it. The error's text is fixed: the address itself may hold a password.
func ParseAddress(what, address string, unix bool) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the " + what + " is not a URL")
	case u.User != nil:
		return nil, errors.New("the " + what + " holds a user name or password")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the " + what + " holds a query or a fragment")
	case unix && u.Scheme == "unix" && u.Path != "":
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the " + what + " does not start with https:// or http://")
	case u.Hostname() == "":
		return nil, errors.New("the " + what + " names no host")
	}
	return u, nil
}

// Exposed reports whether requests to u cross a network unencrypted.
func Exposed(u *url.URL) bool { return u.Scheme == "http" && !Loopback(u.Hostname()) }

// Loopback reports whether host is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
