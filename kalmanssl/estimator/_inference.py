"""Inference of latents from a fitted model, and the tables that `transform` returns after `set_output`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn import get_config
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Latents, Recording, is_pynapple, split_trials, state_names
from kalmanssl.estimator._segment_inference import infer_segments
from kalmanssl.estimator._segments import Prepared, prepare
from kalmanssl.utils.validation import check_bool

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["LatentTransformer", "infer_prepared"]


def infer_prepared(estimator: KalmanSSL, prepared: Prepared, smooth: bool = False, means_only: bool = False) -> Latents:
    """Return the latents of all segments of prepared data, one after another."""
    segments = prepared.segments
    return Latents(
        **infer_segments(estimator, segments, smooth, means_only),
        time=prepared.time,
        segment=np.repeat(np.arange(len(segments)), [len(s) for s in segments]),
        smoothed=smooth,
        session=estimator.sessions_[0],
    )


class LatentTransformer(TransformerMixin):
    """The methods of `KalmanSSL` that infer latents: `posterior` and `transform`."""

    state_dim: int

    def posterior(self, X: Any, smooth: bool = False, *, means_only: bool = False) -> Any:
        """Return the `Latents` that `transform` returns by default, also after `set_output`.

        With `means_only` they have means in float32 and covariances alone: a third of the memory, for decoders.
        """
        check_is_fitted(self, "model_")
        check_bool("smooth", smooth)
        model = cast("KalmanSSL", self)
        if model._has_sessions:
            return model._posterior_of_sessions(X, smooth, means_only)
        prepared = prepare(model, X, fitting=False)
        latents = infer_prepared(model, prepared, smooth, means_only)
        return latents if prepared.n_segments is None else split_trials(latents, prepared.n_segments)

    def transform(self, X: Any, smooth: bool = False) -> Any:
        """Infer the posterior over the latent state at every bin.

        Parameters
        ----------
        X : Recording, object of pynapple, array (time, features) without gaps, or a list of these (trials)
            Each contiguous segment and each trial is filtered by itself. Spike times (`TsGroup`) are counted in bins of
            the fit.
        smooth : bool
            False: the posterior given the past and the present (the filter). True: given the whole segment (the
            smoother).

        Returns
        -------
        Latents
            `numpy.asarray` of it is the posterior mean (time, state). A list of them for a list of trials.

            After ``set_output(transform="pandas")`` a DataFrame of the posterior mean instead, with the columns of
            `get_feature_names_out`. The index is that of `X` if `X` is a DataFrame, and otherwise the time in seconds
            if it is known; for a list of trials it is the number of the trial and the time. Covariances are lost, so
            use the default output for `PositionDecoder`.

        Raises
        ------
        InputError
            If the units or the bin size are not those of the fit.
        """
        latents = self.posterior(X, smooth)
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        container = get_config()["transform_output"] if own is None else own
        if container == "default":
            return latents
        if isinstance(latents, list) and container == "pandas":
            import pandas

            tables = [one.to_dataframe() for one in latents]
            return pandas.concat(tables, keys=range(len(tables)), names=["trial", "time"])
        if container == "pandas" and (isinstance(X, Recording) or is_pynapple(X)):
            return latents.to_dataframe()
        parts: list[Latents] = latents if isinstance(latents, list) else [latents]
        return np.concatenate([one.mean for one in parts])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the state dimensions, "state_0", "state_1", ...; the argument is not used."""
        check_is_fitted(self, "model_")
        return np.array(state_names(self.state_dim), dtype=object)
