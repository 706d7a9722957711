"""JDRL: single-image defocus deblurring learnt from misaligned pairs (Li et al., AAAI 2023)."""
