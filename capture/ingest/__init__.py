"""Finds photographs in folders, pairs them and writes the manifest: `sdd ingest`."""
