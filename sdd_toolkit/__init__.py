"""The ground floor: records, pixels, files and shards that every room shares."""

__version__ = "0.1.0"
