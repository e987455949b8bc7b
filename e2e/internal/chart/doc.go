// Package chart draws lines over time as SVG: panels that share a time axis, with
// bands behind them for what happened meanwhile.
//
// The blackout test and the soak draw what they measured. A chart is one file
// that needs no script, font or network, on a light ground. Its colours differ for
// red-green colour-blind readers too.
package chart
