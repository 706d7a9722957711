"""Splits, merges and subsets packed data sets without decoding pixels."""
