"""Fig. A7: latents of more dimensions, coupled oscillators behind a random network."""

from identifiability.experiment import Size
from identifiability.matcher import Plan
from matplotlib.figure import Figure

from paper.drawing import bars, curves, panels
from paper.fits import fit_part
from paper.item import Item, Rows, Target

__all__ = ["DIMENSIONS", "ITEM"]

SIZES = (2, 3, 5, 10)
# Ten dimensions need a longer training than that of the preset of the identifiability suite.
LONG = {
    "quick": Size(3000, 64, Plan(7500, 32, 4e-3, dynamics_lr_factor=3.0)),
    "full": Size(4000, 200, Plan(20000, 64, 4e-3, dynamics_lr_factor=3.0, final_lr_factor=0.02)),
}
LONGER = " One seed, 7500 steps with batches of 32, on 3000 videos."
DIMENSIONS = tuple(
    fit_part(
        "dimensions",
        f"kNN, whitened, {dims} dimensions",
        seeds=1 if dims == 10 else None,
        sizes=LONG if dims == 10 else None,
        long=dims == 10,
    )
    for dims in SIZES
)
NOT_WHITENED = tuple(fit_part("dimensions", f"kNN, {dims} dimensions") for dims in SIZES if dims < 10)
RANDOM, PCA = (
    tuple(
        fit_part("dimensions", setting, data={"dims": dims}, name=f"dimensions: {short}, {dims} dimensions")
        for dims in SIZES
    )
    for setting, short in (("random weights, 5 dimensions", "random weights"), ("PCA", "PCA"))
)


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(2, 5.0, 3.4)
    entries = [(part.name.split(": ")[1], part.name, "r2") for part in (*DIMENSIONS, *NOT_WHITENED, *RANDOM, *PCA)]
    bars(axes[0], rows, entries, "R² of the true latents")
    curves(axes[1], rows, [part.name for part in DIMENSIONS], "curve", "step", "R² of validation videos")
    return [figure]


ITEM = Item(
    name="figA7",
    figure="Fig. A7",
    title="More dimensions",
    shown="The latents of higher-dimensional systems are recovered too (100000 frames, 20 epochs). Neither the "
    "dimensions nor the system are given in our copy of the paper; here coupled oscillators behind a random network.",
    parts=(*DIMENSIONS, *NOT_WHITENED, *RANDOM, *PCA),
    targets=tuple(
        target
        for dims, part, random, pca in zip(SIZES, DIMENSIONS, RANDOM, PCA, strict=True)
        for target in (
            Target(
                f"{dims} dimensions: R² of the true latents",
                part.name,
                "r2",
                goal=0.9,
                baseline=(pca.name, "r2"),
                why="The goal is ours." + (LONGER if dims == 10 else ""),
            ),
            Target(
                f"{dims} dimensions: R² of the learned latents",
                part.name,
                "r2_back",
                baseline=(random.name, "r2_back"),
                why="The other direction: whether the latents contain anything else.",
            ),
        )
    ),
    draw=_draw,
    found="R² falls with the dimension, and is far above that of principal components in three and more; longer "
    "trainings raise it (kalmanssl bench identifiability --preset full: 0.95 in three and 0.96 in five dimensions, "
    "one seed).",
)
