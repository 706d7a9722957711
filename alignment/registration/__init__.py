"""Registration of a pair: from two frames in memory, from two photographs, and as a stage over a manifest."""
