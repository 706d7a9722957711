"""Shared parts of the command line: lazy command group, options, progress bar, safe terminal text."""
