"""Kernels for CPUs, compiled by numba.

The modules of kernels import numba, which takes long. They are therefore not imported here: a backend imports the one
that it needs inside the function that calls it.
"""

from kalmanssl.kalman.kernels._jit import SlowPathWarning as SlowPathWarning
from kalmanssl.kalman.kernels._jit import cached_njit as cached_njit
from kalmanssl.kalman.kernels._jit import has_compiler as has_compiler
from kalmanssl.kalman.kernels._jit import inline_njit as inline_njit
from kalmanssl.kalman.kernels._jit import run_blocks as run_blocks
from kalmanssl.kalman.kernels._jit import watch_compilation as watch_compilation
