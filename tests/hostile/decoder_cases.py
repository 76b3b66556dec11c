"""Small fitted decoders of several kinds, for tests of their states and of malformed input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kalmanssl import PositionDecoder
from kalmanssl.decoding import EnsembleReadoutSettings, MLPReadoutSettings, MovementSettings, NeighborReadoutSettings

N, WIDTH = 400, 0.05
NETWORKS = MLPReadoutSettings(n_cells=12, n_cells_joint=6, n_networks=1, hidden=8, n_steps=5, min_steps=2)
SMALL = EnsembleReadoutSettings(NETWORKS, NeighborReadoutSettings(n_neighbors=4, max_reference_bins=50))
MOVEMENT = MovementSettings(kinds=("walk", "chain"), width_factors=(1.0,), powers=(0.5,), jumps=(1e-2,), n_rounds=1)
TIME = WIDTH * np.arange(N)
ANGLE = np.linspace(0, 12 * np.pi, N) % (2 * np.pi)
LATENTS = np.stack([np.cos(ANGLE), np.sin(ANGLE), ANGLE], axis=1) + 0.1 * np.random.default_rng(0).normal(size=(N, 3))
ARMS = np.where(ANGLE < 2, "left", np.where(ANGLE < 4, "right", "stem"))


def decoder(**settings: Any) -> PositionDecoder:
    """Return an unfitted decoder whose fit is quick."""
    chosen = {"readout_settings": SMALL, "movement_settings": MOVEMENT, "random_state": 0, **settings}
    return PositionDecoder(**chosen)


def fitted(kind: str) -> PositionDecoder:
    """Return a fitted decoder of one of `KINDS`."""
    settings, position = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few blocks of time
        made = decoder(**settings).fit(LATENTS, position, time=TIME)
        if kind in ("line", "labels"):
            made.update(LATENTS[:60], position[:60], time=TIME[:60] + N * WIDTH)
    return made


KINDS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "line": ({}, ANGLE),
    "circle": ({"period": 2 * np.pi}, ANGLE),
    "plane": ({"readout_settings": NETWORKS, "regressor": "mlp"}, np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=1)),
    "linear": (
        {"readout_settings": None, "regressor": "linear", "period": (2 * np.pi, None)},
        np.stack([ANGLE, ANGLE], 1),
    ),
    "labels": ({}, ARMS),
}
