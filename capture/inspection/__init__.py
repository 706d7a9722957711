"""Scans folders and inspects files: metadata, completeness, thumbnails, similarity."""
