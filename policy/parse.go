package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Version is the version of the policy file format that this package reads.
const Version = 1

// Parse compiles a policy file. filename is for messages only. Every error is an *Error with at least one position.
//
// The order of checks: size, text, YAML constructs and nesting, YAML syntax (each stops at the first problem, because what
// follows would be guesswork), then fields, types, values, and what one part says about another. Of these it reports all
// problems.
func Parse(filename string, text []byte) (*Policy, error) {
	if filename == "" {
		filename = "policy.yaml"
	}
	s := strings.TrimPrefix(string(text), "\ufeff")
	r := &reader{}
	var p *Policy
	if len(text) > MaxFileSize {
		s = "" // an excerpt would cost as much as reading it
		r.fail(position{1, 1}, "split what does not belong together into files of their own; one process reads one file",
			"the file is larger than %d KiB", MaxFileSize>>10)
	} else if at, problem, advice := checkText(s); problem != "" {
		r.fail(at, advice, "%s", problem)
	} else if root := r.tree(strings.ReplaceAll(s, "\r\n", "\n")); root != nil { // the parser counts some CRLF as two lines
		p = r.file(root)
	}
	if len(r.problems) > 0 {
		return nil, &Error{File: filename, Problems: locate(newSource(s), r.problems)}
	}
	return p, nil
}

// locate sorts problems by place, and gives those that are shown their excerpt.
func locate(src *source, problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	for i := range problems {
		p := &problems[i]
		at := src.clamp(position{p.Line, p.Column})
		p.Line, p.Column = at.line, at.column
		if i < maxShown {
			p.Excerpt = src.excerpt(at)
		}
	}
	return problems
}

// syntaxAdvice helps where the YAML parser's message alone may not.
const syntaxAdvice = `check brackets, quotes and indentation there; write patterns and key URIs in double quotes`

// tree parses text as one YAML document of plain constructs; nil if it is not.
func (r *reader) tree(text string) ast.Node {
	tokens, err := guarded(func() (token.Tokens, error) { return lexer.Tokenize(text), nil })
	if err == nil && !r.checkTokens(tokens) {
		return nil
	}
	var file *ast.File
	if err == nil {
		// The parser allows duplicates, because reader.pairs reports all of them.
		file, err = guarded(func() (*ast.File, error) { return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) })
	}
	if err != nil {
		at, message, advice := explain(err)
		r.fail(at, advice, "%s", message)
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			return doc.Body
		}
	}
	r.fail(position{1, 1}, "define keys and a seal list; docs/policy.md has a file to start from", "the file is empty")
	return nil
}

var errNotYAML = errors.New("policy: parse YAML: the parser gave up")

// guarded calls the YAML library on text that may be hostile: a panic there refuses the file.
func guarded[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if recover() != nil { // not shown: it may quote the file
			err = errNotYAML
		}
	}()
	return call()
}

// explain reads an error of the YAML library.
func explain(err error) (at position, message, advice string) {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return position{1, 1}, "the file cannot be understood as YAML", syntaxAdvice
	}
	at, message, advice = tokenPosition(e.GetToken()), printable(e.GetMessage()), syntaxAdvice
	switch {
	case strings.Contains(e.GetMessage(), "'\t'"):
		message, advice = "a tab cannot be used for indentation", "indent with spaces"
	case strings.Contains(message, "tag character"):
		message, advice = refusedConstructs[token.TagType].problem, refusedConstructs[token.TagType].advice
	}
	return at, message, advice
}

// refusedConstructs are parts of YAML that a policy does not need. They unfold into a huge file, or mean other than they seem to.
var refusedConstructs = map[token.Type]struct{ problem, advice string }{
	token.AnchorType:      {"YAML anchors (&) are not allowed in a policy", "write the value out, or in quotes if it is text"},
	token.AliasType:       {"YAML aliases (*) are not allowed in a policy", `write a pattern that starts with a star in quotes: "*"`},
	token.TagType:         {"YAML tags (!) are not allowed in a policy", "write text that starts with ! in quotes; patterns cannot be negated"},
	token.MergeKeyType:    {"YAML merge keys (<<) are not allowed in a policy", "write the fields out"},
	token.MappingKeyType:  {"YAML complex keys (?) are not allowed in a policy", `write a pattern that starts with a question mark in quotes: "?"`},
	token.DirectiveType:   {"YAML directives (%) are not allowed in a policy", "remove the directive, or write text that starts with % in quotes"},
	token.LiteralType:     {"YAML block text (|) is not allowed in a policy", "write the text on one line, in quotes"},
	token.FoldedType:      {"YAML folded text (>) is not allowed in a policy", "write the text on one line, in quotes"},
	token.DocumentEndType: {"YAML document ends (...) are not allowed in a policy", "remove the line; a policy is one document"},
}

// checkTokens refuses what the parser must not see: refused constructs, a second document, text over several lines (mostly
// an open quote), and nesting or a number of tokens that would cost the recursive parser too much.
func (r *reader) checkTokens(tokens token.Tokens) bool {
	depth, entries, line, count := 0, 0, 0, 0
	for _, tk := range tokens {
		if tk.Type == token.CommentType {
			continue
		}
		at := tokenPosition(tk)
		if c, refused := refusedConstructs[tk.Type]; refused {
			r.fail(at, c.advice, "%s", c.problem)
			return false
		}
		if tk.Type == token.DocumentHeaderType && count > 0 {
			r.fail(at, "keep one document; a policy is one file", "a second YAML document starts here")
			return false
		}
		if count++; count > maxTokens {
			r.fail(at, "split what does not belong together into files of their own", "the file holds too much: more than %d YAML tokens", maxTokens)
			return false
		}
		if isString(tk) && strings.Contains(strings.TrimSpace(tk.Origin), "\n") {
			r.fail(at, "close the quote, and write the text on one line", "text that starts here runs over several lines")
			return false
		}
		if at.line != line {
			line, entries = at.line, 0
		}
		switch tk.Type {
		case token.SequenceEntryType:
			entries++
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		default:
		}
		if depth+entries > maxDepth {
			r.fail(at, "a policy nests 5 levels deep; docs/policy.md shows it", "lists and mappings nest too deep")
			return false
		}
	}
	return true
}

func isString(tk *token.Token) bool {
	return tk.Type == token.StringType || tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
}

// file reads the top level.
func (r *reader) file(root ast.Node) *Policy {
	f := topLevel{resilience: defaultResilience()}
	r.mapping(entry{nodePosition(root), root}, fileSchema(&f))
	var keys map[string]Key
	if f.keys.value != nil {
		keys = r.keys(f.keys, f.resilience)
	}
	var rules []Rule
	if f.seal.value != nil {
		rules = r.rules(f.seal, slices.Sorted(maps.Keys(keys)))
	}
	return compile(keys, rules)
}

// version reads the version of the format.
func (r *reader) version(e entry, what string) {
	if n, ok := r.number(e, what); ok && n != Version {
		r.fail(nodePosition(e.value), fmt.Sprintf("write version: %d, or use the release that this file was written for", Version),
			"version %d of the policy file is not known", n)
	}
}

func tokenPosition(tk *token.Token) position {
	if tk == nil || tk.Position == nil {
		return position{1, 1}
	}
	return position{tk.Position.Line, tk.Position.Column}
}

// nodePosition is where n starts for a human reader. For the parser, a block mapping starts at its first colon.
func nodePosition(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	return tokenPosition(n.GetToken())
}

// describe names the kind of n for a message.
func describe(n ast.Node) string {
	switch v := n.(type) {
	case *ast.MappingNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return fmt.Sprint(v.Value)
	case *ast.NullNode:
		return "nothing"
	}
	return "something else"
}
