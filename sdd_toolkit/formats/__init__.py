"""File formats of images: containers and their completeness, TIFF directories, decoding."""
