"""Checkpoints in safetensors, published weights, and the networks loaded from them."""
