"""Registers a pair: homography, residual flow, statistics and the verdict."""
