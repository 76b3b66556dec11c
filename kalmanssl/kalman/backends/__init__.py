"""Implementations of the filter and smoother recursions, all tested against `_reference`."""
