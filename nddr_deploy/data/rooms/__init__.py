"""Synthetic indoor scenes with exact labels, normals and depth; see `dataset.Rooms`."""
