"""The stored transform of a pair: as JSON, as a mapping of coordinates, and applied to files."""
