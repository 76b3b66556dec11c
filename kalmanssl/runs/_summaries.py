"""Numbers that pictures and tables of a fitted model show."""

from __future__ import annotations

import numpy as np

__all__ = ["eigenvalues_with_times", "order_by_peak", "principal_axes"]


def eigenvalues_with_times(A: np.ndarray, step: float) -> list[dict[str, float]]:
    """Eigenvalues of a transition matrix as rhythms and decays, slowest decay first; one of each conjugate pair.

    Parameters
    ----------
    A : (state, state)
    step : float
        Time that one step of the filter lasts, seconds.

    Returns
    -------
    list of dict
        `real`, `imaginary`, `modulus`, `period_s` (infinite if it does not turn) and `decay_s`, the time to fall to
        1/e (infinite if it does not decay).
    """
    values = np.linalg.eigvals(np.asarray(A, dtype=float))
    values = values[values.imag >= 0]
    rows = []
    for value in values[np.argsort(-np.abs(values), kind="stable")]:
        modulus, angle = float(np.abs(value)), float(np.abs(np.angle(value)))
        decays = 0 < modulus < 1
        rows.append(
            {
                "real": float(value.real),
                "imaginary": float(value.imag),
                "modulus": modulus,
                "period_s": 2 * np.pi * step / angle if angle > 1e-9 else float("inf"),
                "decay_s": -step / np.log(modulus) if decays else (0.0 if modulus == 0 else float("inf")),
            }
        )
    return rows


def order_by_peak(counts: np.ndarray, position: np.ndarray, bins: int = 40) -> np.ndarray:
    """Order units by the position at which they fire most.

    Parameters
    ----------
    counts : (time, units)
    position : (time,)
        NaN where it is not known.
    bins : int
        Cells that the range of positions is cut into.
    """
    known = np.isfinite(position)
    if not known.any() or np.ptp(position[known]) == 0:
        return np.arange(counts.shape[1])
    edges = np.linspace(position[known].min(), position[known].max(), bins + 1)
    cell = np.clip(np.digitize(position[known], edges) - 1, 0, bins - 1)
    spikes = np.zeros((bins, counts.shape[1]))
    np.add.at(spikes, cell, counts[known])
    rate = spikes / np.maximum(np.bincount(cell, minlength=bins), 1)[:, None]
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    smooth = np.apply_along_axis(np.convolve, 0, rate, kernel, "same")
    return np.argsort(smooth.argmax(axis=0), kind="stable")


def principal_axes(mean: np.ndarray, where: np.ndarray | None = None, dims: int = 3) -> np.ndarray:
    """Directions (state, dims) in which latents spread most, with a fixed sign.

    Parameters
    ----------
    mean : (time, state)
    where : (time,) bool, optional
        Bins that count.
    """
    chosen = mean if where is None or not where.any() else mean[where]
    _, _, rows = np.linalg.svd(chosen - chosen.mean(axis=0), full_matrices=False)
    rows = rows[:dims]
    largest = np.abs(rows).argmax(axis=1)
    return (rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]).T
