"""Scores deblurring networks on test pairs and writes tables, pictures and a page."""
