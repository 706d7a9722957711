"""Data sets as others lay them out: what a folder holds, in; frames, patches and archives, out."""
