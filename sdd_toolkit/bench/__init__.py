"""Benchmarks of whole methods, from rendered scenes to scores against the truth: `sdd bench`."""
