"""The data card and the Croissant metadata of a packed data set."""
