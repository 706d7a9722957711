"""Dense residual optical flow between a blurred and a sharp frame."""
