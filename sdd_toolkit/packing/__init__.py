"""Develops, warps and packs pairs into HDF5 shards: `sdd pack`."""
