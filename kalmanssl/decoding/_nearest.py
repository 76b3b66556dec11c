"""Search for the largest inner products, which for unit vectors are those with the nearest neighbors."""

from __future__ import annotations

import numpy as np
import torch

from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.utils.torch_ops import one_thread

__all__ = ["largest_products"]

_ROWS = 256  # queries that are handled at a time, so that their products stay in the cache of the processor


def largest_products(queries: np.ndarray, references: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the references with the largest inner products with each query.

    Parameters
    ----------
    queries : (time, features) float32
    references : (references, features) float32
    count : int
        At most the number of references.

    Returns
    -------
    found : (time, count) int
        Indices of references, in any order.
    products : (time, count) float32
    """
    found = np.empty((len(queries), count), dtype=np.int64)
    products = np.empty((len(queries), count), dtype=np.float32)
    stored = torch.from_numpy(references).T
    with one_thread(), torch.inference_mode():
        for first in range(0, len(queries), _ROWS):
            rows = slice(first, first + _ROWS)
            values = (torch.from_numpy(queries[rows]) @ stored).numpy()
            _find_largest(values, count, found[rows])
            products[rows] = np.take_along_axis(values, found[rows], axis=1)
    return found, products


def _find_largest(values: np.ndarray, count: int, found: np.ndarray) -> None:
    """Write the columns of the `count` largest entries of each row of `values` to `found`."""
    if has_compiler():
        from kalmanssl.decoding._nearest_kernel import largest_kernel

        largest_kernel(values, count, found)
    else:
        found[:] = np.argpartition(values, -count, axis=1)[:, -count:]
