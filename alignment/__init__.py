"""Blur-robust registration of a defocused photograph to its sharp partner."""
