"""EXIF, MakerNotes and ExifTool: reads the metadata of a photograph, writes EXIF blocks."""
