"""Calibration of cameras and lenses: hot pixels, focus breathing, distortion and vignetting."""
