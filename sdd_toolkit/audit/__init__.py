"""Checks of a packed data set: integrity, leakage between splits, origin of a pair."""
