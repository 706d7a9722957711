"""Reblurring: spatially variant isotropic kernels, and the networks that predict them."""
