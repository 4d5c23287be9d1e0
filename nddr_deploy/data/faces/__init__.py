"""Simple drawn faces with an age and a gender; see `dataset.Faces`."""
