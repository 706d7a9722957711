"""Capture of defocus pairs: tethered and virtual cameras, inspection of files, pairing and ingest."""
