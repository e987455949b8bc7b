package httpapi

import (
	"context"
	"net/http"
)

// Server answers codec server requests. It is an http.Handler, safe for
// concurrent use; Serve runs it on a listener with all its bounds on time.
type Server struct {
	config    Config // with Logger and all Limits set
	metrics   *metrics
	callers   *callers
	slots     chan struct{} // holds one for each request in progress
	held      budget        // of HeldBytes
	sealing   budget        // of Sealing
	accepting accepting
}

// ServeHTTP implements http.Handler. A program that mounts it in its own server must set bounds on time and listen on
// loopback, as Serve does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer s.end(x)
	if why := s.handle(x); why != answered {
		x.refuse(why)
	}
}

// handle takes a request through its checks. The server's safety rests on their order: each step may refuse, and then no
// later step runs.
//
//	recover          end, deferred by ServeHTTP: a panic is a 500 without details
//	request ID       begin: made here, never the caller's
//	limits           connections (Serve's listener) and requests in progress, before any cost
//	CORS             host name, origin, and preflights: these carry no credentials, so they cannot come after
//	                 authentication
//	route            path, method, query
//	namespace        the path's against X-Namespace; a conflict is 400
//	authenticate     not implemented: hence loopback only, see checkListener
//	rate limit       by principal, once there are principals
//	authorize        likewise
//	content          type and body limit; nothing reads the body before this
//	parse            into no more payloads than allowed
//	codec            within CodecTime
//	audit            end writes the log line; an audit trail belongs before write
//	write            status, counts, payloads, at once
//
// A caller that fails a step learns nothing about the steps after it.
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
		return answered // a preflight
	}

	to, why := s.route(x)
	if why != answered {
		return why
	}
	if to.route == routeHome {
		x.reply(http.StatusOK, textPlain, []byte(homePage))
		return answered
	}
	if x.namespace, why = s.namespace(x.r, to); why != answered {
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

	ctx, cancel := context.WithTimeout(x.r.Context(), s.config.Limits.CodecTime)
	defer cancel()
	work := s.decode
	if to.route == routeEncode {
		work = s.encode
	}
	left := room{s: s, x: x}
	out, why := work(ctx, x, left.take, payloads)
	if left.why != answered {
		return left.why
	}
	if why != answered {
		return why
	}
	return s.answer(x, out)
}

// enter takes one of the places for requests in progress. It does not wait: a refused caller holds no memory here.
func (s *Server) enter() (leave func(), why reason) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, answered
	default:
		return nil, overloaded
	}
}

// homePage is shown in a browser at the server's address.
const homePage = `Waxseal codec server

This address seals and opens Temporal payloads. It has no page to look at;
give the address you see in your browser's address bar to:

  Temporal Web UI    the codec server dialog (the glasses at the top right)
  temporal           temporal workflow show --namespace NAMESPACE --workflow-id ID --codec-endpoint ADDRESS
  SDKs               as the endpoint of a remote payload codec

Endpoints: POST …/encode and …/decode, with the namespace in X-Namespace.
`
