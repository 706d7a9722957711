"""The losses of JDRL's phases, and the loss of the blur estimator."""
