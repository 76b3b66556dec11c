"""`transform` and the tables that it returns after `set_output`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Latents, Recording, is_pynapple, state_names

__all__ = ["LatentTransformer"]


class LatentTransformer(TransformerMixin):
    """The method `transform` of `KalmanSSL`, which returns latents, or a table if `set_output` asks for it."""

    state_dim: int

    def posterior(self, X: Any, smooth: bool = False) -> Any:
        """Return `Latents`, or a list of them."""
        raise NotImplementedError

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
