"""The mesh library: what is built offline, and how it lies on disk."""
