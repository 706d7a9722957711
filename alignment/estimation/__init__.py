"""Estimates a blur-robust homography between two frames, coarse to fine."""
