"""The reblurring module: spatially variant isotropic kernels and the network that predicts them."""
