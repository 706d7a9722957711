"""Image processing on arrays: geometry, resampling, transfer curves, binning, perceptual hash."""
