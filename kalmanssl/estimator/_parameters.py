"""Validation of all parameters of `KalmanSSL`, in one place, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from kalmanssl.entropy import make_entropy
from kalmanssl.errors import InputError
from kalmanssl.estimator._inputs import NORMALIZATIONS
from kalmanssl.networks import NOISE_HEADS
from kalmanssl.training import TrainingSettings
from kalmanssl.utils.circular import check_periods
from kalmanssl.utils.paths import make_folder
from kalmanssl.utils.seeds import check_random_state
from kalmanssl.utils.validation import (
    check_bool,
    check_choice,
    check_condition,
    check_fraction,
    check_integer,
    check_not_negative,
    check_widths,
    short_repr,
    unknown_name_error,
)

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["check_parameters", "training_options", "training_parameters"]

_SIZES = ("latent_dim", "state_dim", "encoder_window", "window", "batch_size", "steps_per_epoch")
_NOISE = tuple(NOISE_HEADS)


def check_parameters(estimator: KalmanSSL, resume: bool = False) -> None:
    """Check the type and the range of all parameters of an estimator, and create its folder of checkpoints.

    Whether a parameter suits the data is checked where the data are prepared.

    Parameters
    ----------
    estimator : KalmanSSL
    resume : bool
        Whether a fit will be resumed, which needs a `checkpoint_dir`.

    Raises
    ------
    InputError
        For the first parameter that cannot be used.
    """
    p: Mapping[str, Any] = estimator.get_params(deep=False)
    for name in _SIZES:
        check_integer(name, p[name], 1)
    check_integer("noise_epochs", p["noise_epochs"], 0)
    check_widths("hidden", p["hidden"])
    check_choice("normalize", p["normalize"], NORMALIZATIONS)
    for name in ("noise", "process_noise"):
        if not isinstance(p[name], str) or p[name] not in _NOISE:
            raise unknown_name_error(name, p[name], _NOISE)
    for name in ("mutual_information", "progress"):
        check_bool(name, p[name])
    make_entropy(p["entropy"])
    _check_encoder(p["encoder"])
    if not isinstance(p["bins_per_step"], str):
        check_integer("bins_per_step", p["bins_per_step"], 1)
    elif p["bins_per_step"] != "auto":
        message = f"bins_per_step must be 'auto' or a number of bins, got {short_repr(p['bins_per_step'])}"
        raise InputError(message, parameter="bins_per_step")
    for name in ("unit_dropout", "validation_fraction"):
        check_fraction(name, p[name])
    for name in ("behavior_weight", "activity_sampling_power"):
        check_not_negative(name, p[name])
    check_periods("behavior_period", p["behavior_period"])
    training_parameters(estimator)
    if not isinstance(p["device"], str):
        check_condition("device", p["device"], False, "'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'")
    check_random_state(p["random_state"])
    check_bool("resume", resume)
    if resume and p["checkpoint_dir"] is None:
        raise InputError("resume=True needs the checkpoint_dir of the fit that was interrupted", parameter="resume")
    if p["checkpoint_dir"] is not None:
        make_folder("checkpoint_dir", p["checkpoint_dir"])


def training_parameters(estimator: KalmanSSL) -> TrainingSettings:
    """Return the settings of the training loop from the parameters of an estimator."""
    parameters = estimator.get_params(deep=False)
    names = TrainingSettings.__dataclass_fields__
    return TrainingSettings(**{name: parameters[name] for name in names if name in parameters})


def training_options(estimator: KalmanSSL, seed: int) -> dict[str, Any]:
    """Return the arguments of `kalmanssl.training.train` that all trainings of a fit have."""
    return {"seed": seed, "device": estimator.device, "progress": estimator.progress}


def _check_encoder(encoder: Any) -> None:
    """Check that the encoder is a module whose weights are on a device."""
    if encoder is None:
        return
    is_module = isinstance(encoder, nn.Module)
    check_condition("encoder", encoder, is_module, "a torch.nn.Module instance, or None")
    if any(tensor.is_meta for tensor in (*encoder.parameters(), *encoder.buffers())):
        raise InputError("encoder has weights on the device 'meta', which have no values", parameter="encoder")
