"""Search for the largest inner products, which for unit vectors are those with the nearest neighbors."""

from __future__ import annotations

import numpy as np
import torch

from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.utils.torch_ops import fast_products, one_thread

__all__ = ["NearestSearch", "with_remaining_norm"]

_ROWS = 128  # queries that are handled at a time, so that their bounds stay in the cache of the processor
_LEADING = 24  # features whose products are computed for all references


class NearestSearch:
    """Search for the references with the largest inner products with each query.

    The search is exact. The product of the leading features and the norms of the remaining ones bound each product from
    above (Cauchy-Schwarz inequality). Only references whose bound exceeds the products with the references that the
    preceding query found are compared, which are few if the leading features have most of the variance and consecutive
    queries are similar.

    Parameters
    ----------
    references : (references, features) float32
    """

    def __init__(self, references: np.ndarray) -> None:
        self.references = np.ascontiguousarray(references)
        self._bounds = torch.from_numpy(with_remaining_norm(references)).T

    def largest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the `count` references with the largest products with each query, at most all references.

        Parameters
        ----------
        queries : (time, features) float32
        count : int

        Returns
        -------
        found : (time, count) int
            Indices of references, in any order.
        products : (time, count) float32
        """
        found = np.empty((len(queries), count), dtype=np.int64)
        products = np.empty((len(queries), count), dtype=np.float32)
        preceding = np.arange(count)
        bounded = torch.from_numpy(with_remaining_norm(queries))
        with one_thread(), fast_products(), torch.inference_mode():
            for first in range(0, len(queries), _ROWS):
                rows = slice(first, first + _ROWS)
                if has_compiler():
                    from kalmanssl.decoding.readouts._nearest_kernel import largest_kernel

                    bounds = (bounded[rows] @ self._bounds).numpy()
                    largest_kernel(bounds, queries[rows], self.references, preceding, found[rows], products[rows])
                    preceding = found[rows][-1]
                else:
                    values = queries[rows] @ self.references.T
                    found[rows] = np.argpartition(values, -count, axis=1)[:, -count:]
                    products[rows] = np.take_along_axis(values, found[rows], axis=1)
        return found, products


def with_remaining_norm(vectors: np.ndarray) -> np.ndarray:
    """Return the leading features of vectors (rows, features) and the norm of the others, float32.

    The inner product of two such rows is an upper bound of that of the vectors.
    """
    rest = np.linalg.norm(vectors[:, _LEADING:], axis=1, keepdims=True)
    return np.concatenate([vectors[:, :_LEADING], rest], axis=1, dtype=np.float32)
