"""Decoding of labels, one bin after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kalmanssl.decoding.grids import likelier_mass
from kalmanssl.decoding.online._steps import OnlineBelief
from kalmanssl.decoding.readouts import OneBinMasses

if TYPE_CHECKING:
    from kalmanssl.decoding._adaptation import Adaptation
    from kalmanssl.decoding.labels import LabelDecoder

__all__ = ["OnlineCategory", "OnlineLabels"]


class OnlineCategory(NamedTuple):
    """The label decoded at one bin.

    Attributes
    ----------
    time : float
        Center of the bin, seconds.
    latent : OnlineLatent
        Posterior of the latent state.
    label : label
        The most probable label.
    probabilities : (labels,)
        Probability of each label of `OnlineDecoder.labels`.
    inside : (labels,) bool
        Which labels are in the prediction set at the level of the decoder.
    """

    time: float
    latent: Any
    label: Any
    probabilities: np.ndarray
    inside: np.ndarray


class OnlineLabels:
    """Markov chain and prediction sets of a decoder of labels, as `OnlineBehavior`.

    Parameters
    ----------
    decoder : LabelDecoder
    adaptation : Adaptation
    level : float
        Nominal level of the prediction sets.
    """

    def __init__(self, decoder: LabelDecoder, adaptation: Adaptation, level: float) -> None:
        self.labels = decoder.labels
        self.cells: list[np.ndarray] = []
        self.occupancies = [decoder.chain.statistics.occupancy.copy()]
        self.beliefs = [OnlineBelief(decoder.chain)]
        self._set_mass = adaptation.region_calibrations(decoder.regions)[0].mass(level)

    def step(self, masses: OneBinMasses, latent: Any) -> OnlineCategory:
        """Decode a bin from the distribution of the readout and its `OnlineLatent`."""
        mass = self.beliefs[0].step(masses.product[0], latent.is_missing, latent.is_start)
        inside = likelier_mass(mass[None])[0] <= self._set_mass
        return OnlineCategory(latent.time, latent, self.labels[mass.argmax()], mass, inside)
