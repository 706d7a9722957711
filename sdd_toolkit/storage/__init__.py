"""Atomic file writing, hashes, safe paths, remote stores and folder locks."""
