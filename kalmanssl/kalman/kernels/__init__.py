"""Kernels compiled by numba for CPUs. Imported on first use, since numba loads slowly."""
