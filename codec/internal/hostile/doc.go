// Package hostile proves what Waxseal promises against a Temporal server that acts.
package hostile
