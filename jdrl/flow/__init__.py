"""Optical flow between deblurred and sharp crops, warping, and validity masks."""
