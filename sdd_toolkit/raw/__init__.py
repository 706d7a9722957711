"""RAW files: LibRaw, Bayer mosaics, demosaicing, hot pixels, DNG."""
