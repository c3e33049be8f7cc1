"""Models by name and by folder: the registry, pulling, the cache, the sidecar, identity."""
