package envelope

// DefaultFailoverAfter is what tests measure failover against.
const DefaultFailoverAfter = defaultFailoverAfter
