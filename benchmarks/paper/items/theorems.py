"""Theorems: recovery by the predictor (Corollary 1), the row space (Remark 1), folds (Eq. 72), spheres (Theorem 2)."""

import math

from matplotlib.figure import Figure

from paper.drawing import bars, panels
from paper.fits import fit_part
from paper.item import Item, Part, Rows, Target, values_of
from paper.items.fig4 import ITEM as FIG4
from paper.items.fig5 import KNN as WOBBLY
from paper.items.fig5 import WHOLE
from paper.items.figa7 import DIMENSIONS
from paper.map_measures import orthogonality
from paper.numeric_checks import SAMPLES, fold_checks
from paper.row_space import LATENT, STATE, row_space
from paper.stationary import N_PARTS, STEPS, gradients_at_optimal_prediction

__all__ = ["ITEM"]

SQUARE = FIG4.parts[0]
SPHERE = fit_part("sphere", "kNN", measures=(orthogonality,))
SPHERE_STOPGRAD = fit_part("sphere", "stop-gradient", measures=(orthogonality,))
SPHERE_DENSITY = fit_part("sphere", "stop-gradient, separate density", measures=(orthogonality,))
SPHERE_PLAIN = fit_part("sphere", "kNN, Gaussian in Euclidean space", measures=(orthogonality,))
SPHERE_RANDOM = fit_part("sphere", "random weights", measures=(orthogonality,))
SPHERE_PCA = fit_part("sphere", "PCA")
FOLDS = Part("known maps", fold_checks, {preset: {"samples": n} for preset, n in SAMPLES.items()})
ROWS = Part("row space", row_space, {p: {"state": STATE, "latent": LATENT} for p in SAMPLES})
STILL = Part(
    "gradients at the optimal prediction",
    gradients_at_optimal_prediction,
    {preset: {"steps": steps, "parts": N_PARTS} for preset, steps in STEPS.items()},
)
THEOREM = "theorem"
RECOVERED = 0.95  # R² above which a position counts as recovered
OUTSIDE = "All frames count, also those in which the dot has left the picture, where the assumptions do not hold."
COROLLARY = (SQUARE, DIMENSIONS[0], DIMENSIONS[1], DIMENSIONS[2], WHOLE, WOBBLY, SPHERE)


def _why(part: Part) -> str:
    if part is WOBBLY:
        return OUTSIDE
    if part in DIMENSIONS:
        return "The latents themselves are not recovered better after this short training, see Fig. A7."
    return "From the true predicted means, by the affine map fitted on the latents."


def _corollary(part: Part) -> list[Target]:
    return [
        Target(
            f"Corollary 1, {part.name}: R² of the predicted means, map of the latents",
            part.name,
            "predictor_same_map",
            1.0,
            THEOREM,
            tolerance=0.05,
            why=_why(part),
        ),
        Target(
            f"Corollary 1, {part.name}: gain of a separate map",
            part.name,
            "predictor_map_gap",
            0.0,
            THEOREM,
            "equal",
            why="0 if the predictor has the same affine map as the latents.",
        ),
    ]


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(3, 5.0, 3.2)
    bars(
        axes[0], rows, [(part.name, part.name, "predictor_same_map") for part in COROLLARY], "R² of the predicted means"
    )
    spheres = (SPHERE, SPHERE_DENSITY, SPHERE_STOPGRAD, SPHERE_PLAIN, SPHERE_RANDOM, SPHERE_PCA)
    bars(axes[1], rows, [(part.name, part.name, "r2") for part in spheres], "R² of the position on the sphere")
    entries = [
        (text, ROWS.name, key)
        for text, key in (("C h, from C h", "shown"), ("hidden, from h", "hidden"), ("hidden, from C h", "shown_alone"))
    ]
    bars(axes[2], rows, entries, "R² between two models")
    return [figure]


def _found(rows: Rows) -> str:
    """Return what was found; fits of the density that lose dimensions are counted, since means over seeds hide them."""
    fits = values_of(rows, SPHERE_DENSITY.name, "r2")
    recovered = sum(value > RECOVERED for value in fits)
    return (
        "Where all frames show the latents, the predictor is recovered by the map of the latents. On the sphere "
        "nearest neighbors find an orthogonal map. The stop-gradient with a density of its own recovers the position, "
        f"by an almost orthogonal map, with {recovered} of {len(fits)} seeds (R² "
        f"{', '.join(f'{value:.2f}' for value in fits)}); otherwise the latents lose a dimension of the sphere. The "
        "stop-gradient with the prediction as density does not recover the position: at every injective encoder its "
        "gradient vanishes when the prediction is optimal, so that it stays near the random weights or collapses "
        "before. A Gaussian model recovers the position less well."
    )


ITEM = Item(
    name="theorems",
    figure="Theorems 1 and 2",
    title="What the theorems say, checked on systems that are known",
    shown="Latents are identified up to an affine map, and the predicted means by the same map (Corollary 1); of a "
    "larger state only what the latents show (Remark 1); an encoder that folds loses entropy (Eq. 72); on the sphere "
    "with von Mises-Fisher steps the map is orthogonal (Theorem 2).",
    parts=(*COROLLARY, ROWS, FOLDS, STILL, SPHERE_DENSITY, SPHERE_STOPGRAD, SPHERE_PLAIN, SPHERE_RANDOM, SPHERE_PCA),
    targets=(
        *(target for part in COROLLARY for target in _corollary(part)),
        Target(
            "Remark 1: R² of C h between two models",
            ROWS.name,
            "shown",
            1.0,
            THEOREM,
            tolerance=0.05,
            why="State of 4 dimensions, latents of 2, on the square.",
        ),
        Target(
            "Remark 1: R² of the hidden coordinates between two models",
            ROWS.name,
            "hidden",
            why="From the whole state of the other model. The theorem does not determine them; on the square they are "
            "functions of the same phase, so that an affine map of the state finds them as well.",
        ),
        Target(
            "Remark 1: R² of the hidden coordinates from C h of the other model",
            ROWS.name,
            "shown_alone",
            why="Below the row above: they are not only functions of what the latents show.",
        ),
        Target(
            "Eq. 72 for f(x) = |x|, x ~ N(0.5, 1): error of the equation (nats)",
            FOLDS.name,
            "identity_error",
            0.0,
            THEOREM,
            "equal",
            0.03,
            why="Entropies estimated from samples.",
        ),
        Target("Folding entropy of a bent, injective map (nats)", FOLDS.name, "injective", 0.0, THEOREM, "equal", 0.05),
        Target(
            "Folding entropy of a map that is two to one (nats)",
            FOLDS.name,
            "two_to_one",
            math.log(2),
            THEOREM,
            "equal",
            0.05,
            why="log 2",
        ),
        Target(
            "Theorem 2: R² of the position, kNN",
            SPHERE.name,
            "r2",
            1.0,
            THEOREM,
            tolerance=0.05,
            baseline=(SPHERE_PCA.name, "r2"),
            why="Our own system; the paper has no experiment for it.",
        ),
        Target(
            "Theorem 2: smallest / largest singular value of the map, kNN",
            SPHERE.name,
            "singular_value_ratio",
            1.0,
            THEOREM,
            tolerance=0.05,
            baseline=(SPHERE_RANDOM.name, "singular_value_ratio"),
            why="1 for an orthogonal map.",
        ),
        Target(
            "Theorem 2: R² of the position, stop-gradient with a density of its own",
            SPHERE_DENSITY.name,
            "r2",
            1.0,
            THEOREM,
            tolerance=0.05,
            baseline=(SPHERE_PCA.name, "r2"),
            why="A mixture density network gives the conditional entropy, as the paper suggests (A.6.2) without an "
            "experiment.",
        ),
        Target(
            "Theorem 2: R² of the position, stop-gradient",
            SPHERE_STOPGRAD.name,
            "r2",
            baseline=(SPHERE_PCA.name, "r2"),
            why="The theorem needs a match of the distributions, to which the stop-gradient of the prediction itself "
            "does not lead, see the next rows.",
        ),
        Target(
            "Random encoder, optimal prediction: share of the gradient that is not noise, stop-gradient",
            STILL.name,
            "stopgrad",
            0.0,
            "derivation",
            "equal",
            0.1,
            why="The gradient passes through the past alone, and the error of an optimal prediction has the mean 0 "
            "given the past of the frames: the mean gradient is 0 at every encoder from which the prediction is the "
            "best one, whether or not it matches the distribution.",
        ),
        Target(
            "The same, with a density of its own",
            STILL.name,
            "density",
            baseline=(STILL.name, "stopgrad"),
            why="Log-density of the latents under the density minus that under the prediction, the estimated "
            "Kullback-Leibler divergence, still moves the encoder.",
        ),
        Target(
            "The same, kNN",
            STILL.name,
            "knn",
            baseline=(STILL.name, "stopgrad"),
            why="The entropy of the latents does not depend on the prediction; most of this gradient is noise, that of "
            "the third neighbor in a batch of 400 frames.",
        ),
        Target(
            "The same: divergence of the distribution of the latents from the prediction (nats)",
            STILL.name,
            "divergence",
            why="Far from a match, although the stop-gradient has nothing left to improve.",
        ),
        Target(
            "Gaussian model on the sphere: R² of the position",
            SPHERE_PLAIN.name,
            "r2",
            baseline=(SPHERE_PCA.name, "r2"),
            why="The wrong family, for comparison.",
        ),
    ),
    draw=_draw,
    found=_found,
)
