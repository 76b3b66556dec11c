"""Detection of collapsed latents."""

from __future__ import annotations

from kalmanssl.errors import CollapseError

__all__ = ["check_collapse"]

#: Smallest scale and smallest effective dimension above 1, as fractions of their values before training. Only a loss of
#: orders of magnitude counts, because the scale is free (a learned noise scale follows it) and the data may have few
#: dimensions.
SMALLEST_SCALE = 1e-3
SMALLEST_SURPLUS_DIMENSION = 1e-2


def check_collapse(initial: dict[str, float], current: dict[str, float], epoch: int) -> None:
    """Raise `CollapseError` if the latents lost their variance or became copies of each other.

    Parameters
    ----------
    initial, current : dict
        Diagnostics (`Trainable.diagnostics`) before training and after the epoch.
    epoch : int
        Number of epochs done.
    """
    symptom = None
    if current["latent_scale"] < SMALLEST_SCALE * initial["latent_scale"]:
        symptom = f"their scale is {current['latent_scale']:.2g}, it began at {initial['latent_scale']:.2g}"
    elif current["effective_dimension"] - 1 < SMALLEST_SURPLUS_DIMENSION * (initial["effective_dimension"] - 1):
        symptom = "all of them carry the same signal"
    if symptom:
        raise CollapseError(
            f"the latents collapsed: after epoch {epoch} {symptom} "
            "(try another entropy, such as 'logdet', or a lower dynamics_lr_factor)"
        )
