"""Make the readout that the argument `regressor` of `PositionDecoder` selects."""

from __future__ import annotations

from typing import Any

from kalmanssl.decoding.grids import Periods
from kalmanssl.decoding.readouts._base import Readout
from kalmanssl.decoding.readouts._classifier import ClassifierReadout
from kalmanssl.decoding.readouts._ensemble import EnsembleReadout, EnsembleReadoutSettings, network_settings
from kalmanssl.decoding.readouts._linear import LinearReadout, LinearReadoutSettings
from kalmanssl.decoding.readouts._mlp import MLPReadout
from kalmanssl.decoding.readouts._mlp_settings import MLPReadoutSettings
from kalmanssl.decoding.readouts._sklearn import SklearnReadout, SklearnReadoutSettings
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_choice

__all__ = ["ReadoutSettings", "make_label_readout", "make_readout", "settings_class"]

ReadoutSettings = EnsembleReadoutSettings | MLPReadoutSettings | LinearReadoutSettings | SklearnReadoutSettings

# The readout and its settings for each name of a regressor.
_NAMED: dict[str, tuple[type[Any], type[Any]]] = {
    "ensemble": (EnsembleReadout, EnsembleReadoutSettings),
    "mlp": (MLPReadout, MLPReadoutSettings),
    "linear": (LinearReadout, LinearReadoutSettings),
}


def settings_class(regressor: Any) -> type[Any]:
    """Return the class of the settings of the readout that `regressor` selects."""
    return _NAMED[regressor][1] if isinstance(regressor, str) else SklearnReadoutSettings


def make_readout(regressor: Any, periods: Periods, posterior: str, n_samples: int, settings: Any) -> Readout:
    """Return an unfitted readout of numbers."""
    check_choice("posterior", posterior, ("mean", "quadrature", "samples"))
    if isinstance(regressor, str):
        if regressor not in _NAMED:
            raise InputError(
                f"regressor={regressor!r} is not known: give {', '.join(_NAMED)} or a regressor of scikit-learn",
                parameter="regressor",
            )
        readout, expected = _NAMED[regressor]
        _check_settings(regressor, settings, expected)
        if regressor == "linear":
            return LinearReadout(periods, settings)
        made: Readout = readout(periods, posterior, n_samples, settings)
        return made
    if isinstance(regressor, type) or not (hasattr(regressor, "fit") and hasattr(regressor, "predict")):
        raise InputError(
            f"regressor is a {type(regressor).__name__} without fit and predict: give an instance such as "
            "KNeighborsRegressor()",
            parameter="regressor",
        )
    _check_settings(regressor, settings, SklearnReadoutSettings)
    return SklearnReadout(regressor, periods, settings)


def make_label_readout(regressor: Any, posterior: str, n_samples: int, settings: Any) -> MLPReadout | ClassifierReadout:
    """Return an unfitted readout of labels."""
    if isinstance(regressor, str) and regressor in ("ensemble", "mlp"):
        check_choice("posterior", posterior, ("mean", "samples"))  # quadrature needs an order of the labels
        _check_settings(regressor, settings, settings_class(regressor))
        networks = None if settings is None else network_settings(settings)
        return MLPReadout((None,), posterior, n_samples, networks)
    usable = hasattr(regressor, "fit") and hasattr(regressor, "predict_proba")
    if isinstance(regressor, str | type) or not usable:
        shown = repr(regressor) if isinstance(regressor, str) else type(regressor).__name__
        raise InputError(
            f'regressor={shown} cannot decode labels: give "ensemble", or a classifier with predict_proba such as '
            "LogisticRegression()",
            parameter="regressor",
        )
    if settings is not None:
        raise InputError(
            f"readout_settings are {type(settings).__name__}, but a classifier takes none: set the parameters of "
            "the classifier",
            parameter="readout_settings",
        )
    return ClassifierReadout(regressor)


def _check_settings(regressor: Any, settings: Any, expected: type) -> None:
    if settings is not None and not isinstance(settings, expected):
        raise InputError(
            f"readout_settings are {type(settings).__name__}, but regressor={regressor!r} takes {expected.__name__}",
            parameter="readout_settings",
        )
