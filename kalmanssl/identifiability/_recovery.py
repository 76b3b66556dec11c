"""Did a model find the true latents? Scores for systems in which they are known.

Latent distribution matching finds the true latents up to an affine map (LDM paper, Theorem 1), and with them the map
that takes the past to the expected present (Corollary 1). So everything here is measured up to an affine map, which is
fitted on one part of the data and scored on another. Whether a theorem could apply at all to data without known latents
is the question of `kalmanssl.identifiability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.identifiability._assumptions import check_assumptions, check_latents
from kalmanssl.identifiability._report import AssumptionReport
from kalmanssl.identifiability._scores import (
    AffineMap,
    PredictiveCalibration,
    affine_r2,
    affine_r2_by_dimension,
    check_frames,
    consistency,
    match_frequencies,
    mean_correlation,
    mlp_gain,
    predictive_calibration,
    predictor_r2,
)

__all__ = [
    "AffineMap",
    "AssumptionReport",
    "PredictiveCalibration",
    "Recovery",
    "affine_r2",
    "check_assumptions",
    "check_latents",
    "consistency",
    "match_frequencies",
    "mean_correlation",
    "mlp_gain",
    "predictive_calibration",
    "predictor_r2",
    "recovery",
]


@dataclass(frozen=True)
class Recovery:
    """How far the true latents were found; scores are of the test part, None where nothing was given to score.

    Attributes
    ----------
    r2_true_from_learned, r2_learned_from_true : float
        `affine_r2` in both directions. Only the first high: the learned latents hold more than the true ones, or noise;
        only the second: they lost something.
    r2_by_dimension : tuple of float
        Of every true dimension from the learned latents.
    mean_correlation : float
    mlp_gain : float
        Of the true latents from the learned ones, see `mlp_gain`.
    predictor_r2_same_map, predictor_r2_own_map : float
        Learned predictions explained by the true ones: with the affine map of the latents (Corollary 1), and with one
        fitted to the predictions themselves. Only the second high: the predictor is right up to another affine map.
    frequencies : dict
        See `match_frequencies`.
    calibration : PredictiveCalibration
    train_frames, test_frames : int
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
        """All scores as JSON types."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "calibration"}
        calibration = None if self.calibration is None else self.calibration.to_dict()
        return kept | {"r2_by_dimension": list(self.r2_by_dimension), "calibration": calibration}

    def summary(self) -> str:
        """Return a table of the scores with what each should be."""
        rows = [
            ("R² of the true latents from the learned", f"{self.r2_true_from_learned:.3f}", "1"),
            ("R² of the learned latents from the true", f"{self.r2_learned_from_true:.3f}", "1"),
            ("mean correlation of matched dimensions", f"{self.mean_correlation:.3f}", "1, less if mixed"),
        ]
        if self.mlp_gain is not None:
            rows.append(("gain in R² of a nonlinear probe", f"{self.mlp_gain:+.3f}", "0"))
        if self.predictor_r2_same_map is not None and self.predictor_r2_own_map is not None:
            rows.append(("R² of the predictor, map of the latents", f"{self.predictor_r2_same_map:.3f}", "1"))
            rows.append(("R² of the predictor, map of its own", f"{self.predictor_r2_own_map:.3f}", "1"))
        if self.frequencies is not None:
            worst = np.max(self.frequencies["error"])
            rows.append(("largest error of a frequency (rad/step)", f"{worst:.4f}", "0"))
        if self.calibration is not None:
            for level, share in self.calibration.coverage.items():
                rows.append((f"within the {level} % interval", f"{100 * share:.1f} %", f"{level} %"))
        width = max(len(row[0]) for row in rows)
        head = f"Recovery on {self.test_frames} frames, maps fitted on {self.train_frames}"
        lines = [f"{name:{width}}  {found:>8}   {wanted}" for name, found, wanted in rows]
        return "\n".join([head, "", f"{'':{width}}  {'found':>8}   perfect", *lines])


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
        Maps are fitted on the first two and scored on the others, whose trajectories must be other ones.
    train_means, test_means : pair of arrays, optional
        True and learned predicted means, (m(s_<t), m̃(z_<t)), for the recovery of the predictor.
    test_covs : (..., dims, dims), optional
        Predicted covariances of the learned latents, for calibration; needs `test_means`.
    transition, angles : (state, state) and sequence of float, optional
        Learned transition matrix and true frequencies, radians per step.
    nonlinear : bool
        Whether to train the perceptron of `mlp_gain`, which takes seconds.
    random_state : int
        Seed of the perceptron.

    Raises
    ------
    InputError
        If shapes do not fit, values are not finite, or one of a pair is missing.
    """
    if (train_means is None) != (test_means is None):
        raise InputError("train_means, test_means: give both, the map is fitted on the one and scored on the other")
    if test_covs is not None and test_means is None:
        raise InputError("test_covs: needs test_means (and train_means) to be centered on")
    if (transition is None) != (angles is None):
        raise InputError("transition, angles: give both or neither")
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
