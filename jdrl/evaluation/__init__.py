"""Scores checkpoints on test pairs; writes tables, pictures and an HTML page."""
