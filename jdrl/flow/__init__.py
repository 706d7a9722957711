"""Optical flow between restored and sharp crops, warping, and masks of trusted pixels."""
