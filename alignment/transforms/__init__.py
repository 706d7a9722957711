"""The stored transform of a pair, as JSON, as coordinates and applied to files."""
