"""Scores of how well learned latents recover known true latents.

Latent distribution matching recovers the true latents up to an affine map (LDM paper, Theorem 1), and the predictor up
to the same map (Corollary 1). All scores are therefore computed up to an affine map, which is fitted on one part of the
data and evaluated on another. For data without known latents, see `check_assumptions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.identifiability._scores import (
    AffineMap,
    PredictiveCalibration,
    affine_r2,
    affine_r2_by_dimension,
    check_frames,
    match_frequencies,
    mean_correlation,
    mlp_gain,
    predictive_calibration,
    predictor_r2,
)

__all__ = ["Recovery", "recovery"]


@dataclass(frozen=True)
class Recovery:
    """Scores of the recovery of true latents on the test part; None if the input for a score is missing.

    Attributes
    ----------
    r2_true_from_learned, r2_learned_from_true : float
        `affine_r2` in both directions. If only the first is high, the learned latents contain more than the true ones,
        or noise; if only the second is high, they contain less.
    r2_by_dimension : tuple of float
        R² of each true dimension from the learned latents.
    mean_correlation : float
        See `mean_correlation`.
    mlp_gain : float
        Gain in R² of a nonlinear map from learned to true latents, see `mlp_gain`.
    predictor_r2_same_map, predictor_r2_own_map : float
        R² of the learned predictions from the true ones, with the affine map of the latents (Corollary 1), and with a
        map fitted to the predictions. If only the second is high, the predictor is correct up to a different affine
        map.
    frequencies : dict
        See `match_frequencies`.
    calibration : PredictiveCalibration
    train_frames, test_frames : int
        Number of frames.
    """

    r2_true_from_learned: float
    r2_learned_from_true: float
    r2_by_dimension: tuple[float, ...]
    mean_correlation: float
    train_frames: int
    test_frames: int
    mlp_gain: float | None = None
    predictor_r2_same_map: float | None = None
    predictor_r2_own_map: float | None = None
    frequencies: dict[str, list[float]] | None = None
    calibration: PredictiveCalibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON types."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "calibration"}
        calibration = None if self.calibration is None else self.calibration.to_dict()
        return kept | {"r2_by_dimension": list(self.r2_by_dimension), "calibration": calibration}

    def summary(self) -> str:
        """Return a table of the scores and their ideal values as text."""
        rows = [
            ("R² of the true latents from the learned", f"{self.r2_true_from_learned:.3f}", "1"),
            ("R² of the learned latents from the true", f"{self.r2_learned_from_true:.3f}", "1"),
            ("mean correlation of matched dimensions", f"{self.mean_correlation:.3f}", "1, less if mixed"),
        ]
        if self.mlp_gain is not None:
            rows.append(("gain in R² of a nonlinear probe", f"{self.mlp_gain:+.3f}", "0"))
        if self.predictor_r2_same_map is not None and self.predictor_r2_own_map is not None:
            rows.append(("R² of the predictor, map of the latents", f"{self.predictor_r2_same_map:.3f}", "1"))
            rows.append(("R² of the predictor, separate map", f"{self.predictor_r2_own_map:.3f}", "1"))
        if self.frequencies is not None:
            worst = np.max(self.frequencies["error"])
            rows.append(("largest frequency error (rad/step)", f"{worst:.4f}", "0"))
        if self.calibration is not None:
            for level, coverage in self.calibration.coverage.items():
                rows.append((f"coverage of the {level} % interval", f"{100 * coverage:.1f} %", f"{level} %"))
        width = max(len(row[0]) for row in rows)
        head = f"Recovery on {self.test_frames} frames, maps fitted on {self.train_frames}"
        lines = [f"{name:{width}}  {value:>8}   {ideal}" for name, value, ideal in rows]
        return "\n".join([head, "", f"{'':{width}}  {'value':>8}   ideal", *lines])


def recovery(
    train_true: np.ndarray,
    train_learned: np.ndarray,
    test_true: np.ndarray,
    test_learned: np.ndarray,
    *,
    train_means: tuple[np.ndarray, np.ndarray] | None = None,
    test_means: tuple[np.ndarray, np.ndarray] | None = None,
    test_covs: np.ndarray | None = None,
    transition: np.ndarray | None = None,
    angles: Sequence[float] | None = None,
    nonlinear: bool = True,
    random_state: int = 0,
) -> Recovery:
    """Score learned latents against the true ones.

    Parameters
    ----------
    train_true, train_learned, test_true, test_learned : (frames, dims) or (videos, frames, dims)
        Maps are fitted on the train arrays and evaluated on the test arrays, which must hold different trajectories.
    train_means, test_means : pair of arrays, optional
        True and learned predicted means (m(s_<t), m̃(z_<t)), for the recovery of the predictor.
    test_covs : (..., dims, dims), optional
        Predicted covariances of the learned latents, for the calibration; requires `test_means`.
    transition, angles : (state, state) and sequence of float, optional
        Learned transition matrix and true frequencies, radians per step.
    nonlinear : bool
        Whether to compute `mlp_gain`, which takes seconds.
    random_state : int
        Seed of the network of `mlp_gain`.

    Returns
    -------
    Recovery

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or one of a pair of arguments is missing.
    """
    if (train_means is None) != (test_means is None):
        raise InputError("train_means and test_means must be given together")
    if test_covs is not None and test_means is None:
        raise InputError("test_covs requires test_means and train_means", parameter="test_covs")
    if (transition is None) != (angles is None):
        raise InputError("transition and angles must be given together")
    by_dimension = affine_r2_by_dimension(train_learned, train_true, test_learned, test_true)
    found: dict[str, Any] = {}
    if nonlinear:
        found["mlp_gain"] = mlp_gain(train_learned, train_true, test_learned, test_true, random_state=random_state)
    if train_means is not None and test_means is not None:
        latent_map = AffineMap.fit(train_true, train_learned)
        found["predictor_r2_same_map"] = predictor_r2(latent_map, *test_means)
        found["predictor_r2_own_map"] = affine_r2(*train_means, *test_means)
        if test_covs is not None:
            found["calibration"] = predictive_calibration(test_learned, test_means[1], test_covs)
    if transition is not None and angles is not None:
        found["frequencies"] = match_frequencies(transition, angles)
    return Recovery(
        r2_true_from_learned=float(by_dimension.mean()),
        r2_learned_from_true=affine_r2(train_true, train_learned, test_true, test_learned),
        r2_by_dimension=tuple(by_dimension.tolist()),
        mean_correlation=mean_correlation(test_true, test_learned),
        train_frames=len(check_frames("train_true", train_true)),
        test_frames=len(check_frames("test_true", test_true)),
        **found,
    )
