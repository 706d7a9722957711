"""Deblurs photographs tile by tile, maps blur radii, exports networks to ONNX."""
