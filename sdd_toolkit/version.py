"""The version of the toolkit."""

__version__ = "0.3.0"
