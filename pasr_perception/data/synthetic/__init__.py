"""Synthetic photos of single objects: composed, rendered, written as a checksummed set, read again."""
