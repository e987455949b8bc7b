package driver

// The operations that errors name.
const (
	OpOpen     = "open"
	OpWrap     = "wrap"
	OpUnwrap   = "unwrap"
	OpRewrap   = "rewrap"
	OpRotate   = "rotate"
	OpVersions = "list versions"
	OpDisable  = "disable"
	OpEnable   = "enable"
	OpDestroy  = "destroy"
	OpRestore  = "restore"
	OpProbe    = "probe"
)
