"""Benchmark of all combinations of the family on images: quality of their features, and time of a training step."""
