"""Random samples for the tests of entropy estimators."""

import torch


def normal(n, dim, seed=0, dtype=torch.float32):
    """Draw samples (n, dim) of a standard normal distribution."""
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def directions(n, dim, seed=0):
    """Draw uniform unit vectors (n, dim)."""
    return torch.nn.functional.normalize(normal(n, dim, seed, torch.float64), dim=1)


def probabilities(n, dim, seed=0):
    """Draw uniform samples (n, dim) on the simplex, as normalized exponential variables."""
    e = -torch.rand(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log()
    return e / e.sum(1, keepdim=True)
