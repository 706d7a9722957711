"""The manifest, the stage runner with its journal, and the folder of a data set."""
