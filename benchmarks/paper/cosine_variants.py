"""The cosine between the gradients of two entropies, measured in several ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from identifiability.measures import Fitted
from results_store import Row
from torch import Tensor

from kalmanssl.entropy import KNNEntropy, StopGradientEntropy
from kalmanssl.models import SequenceModel
from kalmanssl.probes import gradient_cosine

__all__ = ["BATCH", "REPEATS", "VARIANTS", "cosine_variants"]

BATCH = 8  # videos, as in the paper
REPEATS = 10  # batches over which the cosine of a variant is averaged
VARIANTS = {
    "as in the paper": "cosine_paper",
    "videos of the test part": "cosine_test",
    "batch of 64": "cosine_batch_64",
    "no clipping": "cosine_no_clipping",
    "gradient 0 where clipped": "cosine_hard_clip",
    "10th neighbor": "cosine_k_10",
    "30th neighbor": "cosine_k_30",
    "first layer only": "cosine_first_layer",
    "last layer only": "cosine_last_layer",
    "with respect to the latents": "cosine_latents",
}
"""Names on the page of the entries of `cosine_variants`."""


def cosine_variants(fitted: Fitted) -> Row:
    """Return the cosine between the gradients of the two entropies at the end of the training, computed in other ways.

    Each is the mean over ten batches; the first is the published form: training batches of 8, third neighbor, distances
    clipped at the 0.9-quantile, all weights of the encoder.
    """
    if not fitted.model.trained:
        return {}
    model = fitted.model.model.train()
    rng = np.random.default_rng(0)

    def mean(cosine: Callable[[Tensor], float], videos: np.ndarray = fitted.train.videos, batch: int = BATCH) -> float:
        chosen = (rng.choice(len(videos), min(batch, len(videos)), replace=False) for _ in range(REPEATS))
        return float(np.mean([cosine(torch.from_numpy(videos[some])) for some in chosen]))

    weights = list(model.encoder.parameters())
    row = {
        "cosine_paper": mean(lambda x: _cosine(model, x, KNNEntropy())),
        "cosine_test": mean(lambda x: _cosine(model, x, KNNEntropy()), fitted.test.videos),
        "cosine_batch_64": mean(lambda x: _cosine(model, x, KNNEntropy()), batch=64),
        "cosine_no_clipping": mean(lambda x: _cosine(model, x, KNNEntropy(clip_quantile=None))),
        "cosine_hard_clip": mean(lambda x: _cosine(model, x, _hard_clipped)),
        "cosine_k_10": mean(lambda x: _cosine(model, x, KNNEntropy(k=10))),
        "cosine_k_30": mean(lambda x: _cosine(model, x, KNNEntropy(k=30))),
        "cosine_first_layer": mean(lambda x: _cosine(model, x, KNNEntropy(), weights[:1])),
        "cosine_last_layer": mean(lambda x: _cosine(model, x, KNNEntropy(), weights[-2:-1])),
        "cosine_latents": mean(lambda x: _latent_cosine(model, x)),
    }
    model.eval()
    return row


def _cosine(
    model: SequenceModel, x: Tensor, entropy: Callable[[Tensor], Tensor], weights: list[Tensor] | None = None
) -> float:
    output = model(x)
    terms = StopGradientEntropy()(output.latent, output.prediction), entropy(output.latent.flatten(0, 1))
    return gradient_cosine(terms, model.encoder.parameters() if weights is None else weights)


def _latent_cosine(model: SequenceModel, x: Tensor) -> float:
    """Return the cosine between the gradients with respect to the latents instead of the weights."""
    output = model(x)
    terms = StopGradientEntropy()(output.latent, output.prediction), KNNEntropy()(output.latent.flatten(0, 1))
    first, second = (torch.autograd.grad(term, output.latent, retain_graph=True)[0].flatten() for term in terms)
    return float(torch.cosine_similarity(first, second, dim=0))


def _hard_clipped(z: Tensor) -> Tensor:
    """Return the entropy as in the published code: distances above the 0.9-quantile have no gradient."""
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance + torch.diag(torch.full((len(z),), float("inf")))
    radius = distance.kthvalue(3, dim=1).values
    clipped = torch.minimum(radius, radius.detach().quantile(0.9))
    return z.shape[1] * (clipped + 1e-8).log().mean()
