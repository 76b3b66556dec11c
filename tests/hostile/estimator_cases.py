"""Malformed parameters, data and encoders for the tests of `KalmanSSL`, in named groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TINY: dict[str, Any] = {
    "latent_dim": 2, "state_dim": 3, "hidden": (8,), "window": 8, "bins_per_step": 2, "batch_size": 16, "epochs": 1,
    "steps_per_epoch": 2, "validation_fraction": 0, "progress": False, "random_state": 0, "device": "cpu",
}  # fmt: skip


def counts(units: int = 6, bins: int = 200, seed: int = 0) -> np.ndarray:
    """Counts (bins, units) without structure."""
    return np.random.default_rng(seed).poisson(2.0, (bins, units)).astype(float)


class Odd:
    """An object of no useful type."""

    def __repr__(self) -> str:
        return "a text of\nseveral lines " + "x" * 1000


NOT_NUMBERS: dict[str, Any] = {
    "true": True, "text": "3", "none": None, "list": [2], "complex": 1j, "array": np.array([2, 3]), "dict": {},
    "object": Odd(), "nan": float("nan"), "negative": -1,
}  # fmt: skip
NOT_INTEGERS: dict[str, Any] = {
    **NOT_NUMBERS, "fraction": 2.5, "float": 2.0, "infinite": float("inf"), "huge": 10**30, "bytes": b"2",
    "numpy-bool": np.bool_(True),
}  # fmt: skip
SIZES = ("latent_dim", "state_dim", "encoder_window", "batch_size", "window", "epochs", "steps_per_epoch", "patience")
RATES = ("learning_rate", "dynamics_lr_factor", "noise_lr_factor", "gradient_clip")
FRACTIONS = ("validation_fraction", "unit_dropout", "behavior_weight", "activity_sampling_power", "weight_decay")
NAMES = ("normalize", "noise", "process_noise", "entropy", "device")
NOT_NAMES: dict[str, Any] = {
    "list": ["sqrt"], "none": None, "int": 3, "unknown": "foo", "bytes": b"sqrt", "class": Odd, "dict": {},
    "array": np.array(["sqrt"]), "empty": "", "capitals": "SQRT", "nul": "a\0b", "long": "x" * 100_000, "lines": "a\nb",
}  # fmt: skip


def wrong_parameters() -> dict[str, dict[str, Any]]:
    """Return keyword arguments of `KalmanSSL`, each with one wrong value, by a readable name."""
    cases: dict[str, dict[str, Any]] = {}

    def add(parameter: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            cases[f"{parameter}-{name}"] = {parameter: value}

    for name in SIZES:
        add(name, {**NOT_INTEGERS, "zero": 0})
    add("bins_per_step", {**NOT_INTEGERS, "zero": 0})
    add("noise_epochs", NOT_INTEGERS)
    for name in RATES:
        add(name, {**NOT_NUMBERS, "zero": 0, "infinite": float("inf"), "huge": 10**400})
    add("learning_rate", {"too-large": 1e300})
    add("dynamics_lr_factor", {"too-large": 1e300})
    for name in FRACTIONS:
        add(name, {**NOT_NUMBERS, "infinite": float("inf"), "huge": 10**400})
    add("weight_decay", {"too-large": 1e300})
    for name in ("validation_fraction", "unit_dropout"):
        add(name, {"one": 1.0, "two": 2})
    add(
        "hidden",
        {
            "int": 8, "text": "8", "none": None, "texts": ["8"], "negative": (-1,), "zero": (0,), "bool": (True,),
            "nested": ((8,),), "nan": (float("nan"),), "dict": {8: 1}, "float": (8.0,), "set": {8}, "bytes": b"8",
            "matrix": np.array([[8]]), "floats": np.array([8.0]), "generator": (8 for _ in range(1)),
        },
    )  # fmt: skip
    add(
        "random_state",
        {
            "text": "0", "negative": -1, "huge": 2**32, "fraction": 1.5, "list": [1, 2], "nan": float("nan"),
            "true": True, "module": np.random, "object": Odd(), "dict": {}, "tuple": (1,),
        },
    )  # fmt: skip
    for name in NAMES:
        add(name, NOT_NAMES)
    add("device", {"number": "cuda:99", "meta": "meta"})
    for name in ("mutual_information", "progress"):
        add(name, {"text": "yes", "int": 2, "none": None, "list": [], "nan": float("nan"), "array": np.ones(2)})
    add(
        "behavior_period",
        {
            "text": "auto", "negative": -1.0, "zero": 0, "true": True, "nan": float("nan"), "texts": ["a"], "dict": {},
            "infinite": float("inf"), "object": Odd(),
        },
    )  # fmt: skip
    add(
        "checkpoint_dir",
        {
            "nul": "a\0b", "int": 3, "true": True, "list": ["a"], "bytes": b"abc", "nan": float("nan"), "empty": "",
            "surrogate": "a\ud800", "long": "/tmp/" + "x" * 300, "device": "/dev/null/x",
        },
    )  # fmt: skip
    return cases


def wrong_data() -> dict[str, Any]:
    """Return data that cannot be fitted, by a readable name."""
    import pandas as pd
    import scipy.sparse

    X = counts()
    holes, infinite = X.copy(), X.copy()
    holes[3, 2], infinite[3, 2] = np.nan, np.inf
    texts, dicts = X.astype(object), X.astype(object)
    texts[1, 1], dicts[1, 1] = "a", {}
    table = pd.DataFrame(X).astype("Int64")
    table.iloc[3, 2] = pd.NA
    return {
        "none": None, "int": 3, "text": "abc", "dict": {"a": 1}, "set": {1, 2}, "empty-list": [],
        "ragged": [[1, 2], [1]], "object-with-text": texts, "object-with-dict": dicts, "texts": X.astype(str),
        "bytes": X.astype(bytes), "nan": holes, "infinite": infinite, "complex": X + 1j, "one-axis": X[:, 0],
        "three-axes": X[None], "no-axis": np.array(3.0), "no-feature": X[:, :0], "no-bin": X[:0], "one-bin": X[:1],
        "two-bins": X[:2], "seven-bins": X[:7], "dates": X.astype("datetime64[s]"),
        "durations": X.astype("timedelta64[s]"), "masked": np.ma.masked_greater(X, 3),
        "structured": np.zeros(200, dtype=[("a", float), ("b", float)]), "generator": (x for x in X),
        "list-with-none": [X, None], "list-of-vectors": [X[:, 0], X[:, 1]], "trials-of-other-units": [X, X[:, :3]],
        "empty-trial": [X, X[:0]], "list-of-texts": ["a", "b"], "too-large": X * 1e300, "too-large-single": X * 1e38,
        "torch-nan": torch.from_numpy(holes), "zeros": X * 0, "constant": X * 0 + 3,
        "constant-units": np.tile(np.arange(6.0), (200, 1)), "function": counts, "class": Odd,
        "path": Path("x.nwb"), "range": range(10), "void": np.zeros((200, 6), dtype="V4"),
        "sparse": scipy.sparse.csr_matrix(X), "table-of-texts": pd.DataFrame({"a": ["x"] * 200}),
        "table-of-categories": pd.DataFrame({"a": pd.Categorical(["x"] * 200)}), "table-with-missing": table,
        "series": pd.Series(X[:, 0]),
    }  # fmt: skip


def wrong_behavior() -> dict[str, Any]:
    """Return behavior that cannot be used in a fit of 200 bins, by a readable name."""
    return {
        "none": None, "short": np.zeros(3), "name": "position", "three-axes": np.zeros((200, 1, 1)),
        "nan": np.full(200, np.nan), "constant": np.zeros(200), "infinite": np.full(200, np.inf),
        "objects": np.array([{}] * 200), "complex": np.ones(200) * 1j, "int": 3, "dict": {},
        "ragged": [[1], [1, 2]] * 100, "generator": (i for i in range(200)), "no-axis": np.array(1.0),
        "mixed-labels": np.array([1, "a"] * 100, dtype=object), "one-label": np.array(["a"] * 200),
        "no-dimension": np.zeros((200, 0)), "too-large": np.linspace(0, 1e300, 200),
    }  # fmt: skip


class Linear(nn.Module):
    """A linear encoder of six features."""

    def __init__(self, dtype: torch.dtype = torch.float32, dim: int = 2, device: str = "cpu") -> None:
        super().__init__()
        self.linear = nn.Linear(6, dim, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x)


class MixedPrecision(nn.Module):
    """Two layers of different precision, with a conversion between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).double())


class ReturnsTuple(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x), x


class ReturnsNaN(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * float("nan")


class ReturnsConstant(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * 0


class Fails(Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("boom\nsecond line")


class CannotBeCopied(Linear):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copy\nsecond line")


def wrong_encoders() -> dict[str, Any]:
    """Return encoders that cannot be used for six features and two latents, by a readable name."""
    return {
        "mixed-precision": MixedPrecision(), "other-dim": Linear(dim=3), "class": Linear, "function": lambda x: x,
        "text": "mlp", "int": 3, "fails": Fails(), "nan": ReturnsNaN(), "constant": ReturnsConstant(),
        "meta": Linear(device="meta"), "no-copy": CannotBeCopied(), "tuple": ReturnsTuple(),
    }  # fmt: skip
