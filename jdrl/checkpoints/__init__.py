"""Checkpoints in safetensors, published weights, and networks restored from them."""
