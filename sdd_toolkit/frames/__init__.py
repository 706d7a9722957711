"""Reads a RAW file or an image as a linear frame, and writes a frame as an image file."""
