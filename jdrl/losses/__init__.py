"""The joint loss of JDRL and the triplet loss of the blur estimator."""
