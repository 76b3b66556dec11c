"""Ways to store the state of an online filter or decoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

__all__ = ["STORES", "store_and_load"]

STORES = ("numpy", "json")


def store_and_load(state: dict[str, np.ndarray], store: str, folder: Path) -> dict[str, object]:
    """Return a state after it was written to a file of NumPy, or to JSON, and read again."""
    if store == "json":
        loaded: dict[str, object] = json.loads(json.dumps({name: value.tolist() for name, value in state.items()}))
        return loaded
    np.savez(folder / "state.npz", **state)
    with np.load(folder / "state.npz", allow_pickle=False) as stored:
        return dict(stored)
