"""The kit for plugin authors and for our own tests: an authority, a cluster in memory, a cluster of real processes."""
