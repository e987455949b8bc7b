package httpapi

import (
	"context"
	"log/slog"
	"net/http"
)

// Server answers codec server requests. It is an http.Handler, safe for
// concurrent use; Serve runs it on a listener with all its bounds on time.
type Server struct {
	codec            Codec
	defaultNamespace string
	pathPrefix       string
	strict           bool
	anywhere         bool
	ready            func(context.Context) error
	logger           *slog.Logger
	metrics          *metrics
	limits           Limits
	callers          *callers
	slots            chan struct{} // holds one for each request in progress
	held             budget        // of HeldBytes
	sealing          budget        // of Sealing
	accepting        accepting
}

// ServeHTTP implements http.Handler. A program that mounts it in a server of
// its own must see to the bounds on time and to the listener being on loopback,
// as Serve does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer s.end(x)
	if why := s.handle(x); why != answered {
		x.refuse(why)
	}
}

// handle takes a request through its checks. Their order is what the server's
// safety rests on; every step may refuse, and no later step runs then:
//
//	recover          end, deferred by ServeHTTP: a panic is a 500 that tells nothing
//	request ID       begin: ours alone, never the caller's
//	limits           connections (Serve's listener) and requests in progress, before anything costs
//	CORS             the host name and origin that a browser was led to use, and preflights,
//	                 which carry no credentials and so cannot wait for authentication
//	route            path, method, query
//	namespace        the path's against X-Namespace; a conflict is 400
//	authenticate     nobody, so far: hence loopback only, see checkListener
//	rate limit       by principal, once there are principals
//	authorize        likewise
//	content          type and body limit; nothing of a body is read before this
//	parse            into no more payloads than allowed
//	codec            with the time it may take
//	audit            the log line is written in end; an audit trail has its place before write
//	write            status, counts, payloads, at once
//
// A caller who fails a step learns nothing about the steps after it.
func (s *Server) handle(x *exchange) reason {
	leave, why := s.enter()
	if why != answered {
		return why
	}
	defer leave()

	if why := s.callers.check(x.r); why != answered {
		return why
	}
	if s.callers.cors(x) {
		return answered // a preflight, and that was all
	}

	target, why := s.route(x)
	if why != answered {
		return why
	}
	if target.route == routeHome {
		x.reply(http.StatusOK, textPlain, []byte(homePage))
		return answered
	}
	if x.namespace, why = s.namespace(x.r, target); why != answered {
		return why
	}

	if why := checkContent(x.r); why != answered {
		return why
	}
	body, why := s.readBody(x)
	if why != answered {
		return why
	}
	if !s.weigh(x, body) {
		return overfull
	}
	payloads, why := s.parse(x, body)
	if why != answered {
		return why
	}

	ctx, cancel := context.WithTimeout(x.r.Context(), s.limits.CodecTime)
	defer cancel()
	work := s.decode
	if target.route == routeEncode {
		work = s.encode
	}
	room := room{s: s, x: x}
	out, why := work(ctx, x, room.take, payloads)
	if room.why != answered {
		return room.why
	}
	if why != answered {
		return why
	}
	return s.answer(x, out)
}

// enter takes one of the places for requests in progress. It does not wait: a
// caller that is told to come back holds no memory here.
func (s *Server) enter() (leave func(), why reason) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, answered
	default:
		return nil, overloaded
	}
}

// homePage is for a person who opens the server's address in a browser.
const homePage = `Waxseal codec server

This address seals and opens Temporal payloads. It has no page to look at;
give the address you see in your browser's address bar to:

  Temporal Web UI    the codec server dialog (the glasses at the top right)
  temporal           temporal workflow show --namespace NAMESPACE --workflow-id ID --codec-endpoint ADDRESS
  SDKs               as the endpoint of a remote payload codec

Endpoints: POST …/encode and …/decode, with the namespace in X-Namespace.
`
