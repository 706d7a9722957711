"""Residual optical flow between a blurred and a sharp frame, beyond their global model."""
