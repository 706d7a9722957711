"""Aligned crops of shards as batches, and patch data sets for custom training loops."""
