"""Fusion of a focal stack into one all-in-focus picture: `sdd fuse`."""
