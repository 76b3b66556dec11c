"""Table 2, Table A1 and Fig. 3: features and dimensions of the thirteen combinations on images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from images.combinations import COMBINATIONS
from images.experiment import run
from images.presets import PRESETS
from matplotlib.figure import Figure
from parallel import Logger
from results_store import Row
from scipy.stats import spearmanr
from suite import RESULTS

from paper.digit_runs import digit_part
from paper.drawing import first_drawn, panels
from paper.item import Item, Part, Rows, Target, values_of
from paper.stored import stored_part

__all__ = ["DIGITS", "ITEM", "NAMES"]

COMMAND = "kalmanssl bench images --preset cifar-small --data cifar10_jpeg.zip"
FOLDER = "images/cifar-small"
NAMES = [name for name, one in COMBINATIONS.items() if one.published is not None]
# Read off the vector figure for CIFAR-100, Fig. 3.
DIMENSIONS = {
    "Euclidean KDE": 12,
    "Euclidean KDE + MI": 17,
    "Euclidean kNN": 27,
    "Euclidean kNN + MI": 33,
    "VICReg-LDM": 333,
    "VICReg": 515,
    "sphere KDE": 29,
    "sphere KDE + MI": 118,
    "sphere kNN": 35,
    "sphere kNN + MI": 52,
    "sphere log-determinant": 83,
    "sphere log-determinant + MI": 77,
}
SMALLER = "A small encoder and a short training, see above."
OTHER = "Other images, encoder and number of dimensions, see above."
DIFFERENT = (
    "Linear and nearest-neighbor probes are those of a small encoder after twelve epochs instead of ResNet-18 after "
    "1000; the command with --preset full has the published size and needs a GPU. Published numbers of eigenvalues "
    "are for CIFAR-100 and latents of 2048 or 256 dimensions, ours for CIFAR-10 and 256 or 128 dimensions. "
)


def _pick(row: Row) -> Row:
    entries = {
        "linear_probe": "top1",
        "knn_probe": "knn",
        "effective_dimension": "dimension",
        "above_share": "dimension_share",
        "participation_ratio": "participation",
    }
    drawn = {"spectrum": row["spectrum"]} if "spectrum" in row else {}
    flat = {short: float(row[entry]) for entry, short in entries.items() if entry in row}
    return flat | ({"drawn": drawn} if drawn else {})


def _combination(name: str) -> Part:
    """Return the part of a combination: stored rows, or a run of the published size in the preset `full`."""
    stored = stored_part(f"CIFAR-10: {name}", FOLDER, COMMAND, _pick, 2, part="combinations", combination=name)

    def run_part(preset: str, seed: int, logger: Logger | None) -> Row:
        if preset != "full":
            return stored.run(preset, seed, logger)
        out = RESULTS / "images" / "cifar"
        Path(out).mkdir(parents=True, exist_ok=True)
        return _pick(run(COMBINATIONS[name], PRESETS["cifar"], seed, out))

    seeds = 1 if name in ("SimSiam", "BYOL") else 2
    return Part(stored.name, run_part, {"full": {"preset": "cifar"}}, seeds, stored.source)


def _baseline(name: str) -> Part:
    return stored_part(f"CIFAR-10: {name}", FOLDER, COMMAND, _pick, 1, part="baselines", combination=name)


STORED = tuple(_combination(name) for name in NAMES)
RANDOM, PCA, PIXELS = (_baseline(name) for name in ("random weights", "PCA of pixels", "pixels"))
DIGITS = {name: digit_part(name) for name in NAMES}


def _targets() -> list[Target]:
    found: list[Target] = []
    for name, part in zip(NAMES, STORED, strict=True):
        published = COMBINATIONS[name].published
        found.append(
            Target(
                f"{name}: linear probe, CIFAR-10",
                part.name,
                "top1",
                published,
                "table A1",
                "at least",
                0.005,
                baseline=(PIXELS.name, "top1"),
                why=SMALLER,
            )
        )
        found.append(
            Target(
                f"{name}: kNN probe, CIFAR-10", part.name, "knn", baseline=(RANDOM.name, "knn"), why="Not in the paper."
            )
        )
        if name in DIMENSIONS:
            found.append(
                Target(
                    f"{name}: eigenvalues above 1e-3",
                    part.name,
                    "dimension",
                    float(DIMENSIONS[name]),
                    "plot (values read off)",
                    "equal",
                    2.0,
                    why=OTHER,
                )
            )
    for name, digits in DIGITS.items():
        found.append(
            Target(
                f"{name}: linear probe, digits, top 1",
                digits.name,
                "top1",
                baseline=(digits.name, "probe_first"),
                why="Not in the paper. Baseline: random weights.",
            )
        )
        found.append(
            Target(f"{name}: linear probe, digits, top 5", digits.name, "top5", why="Stored rows have no top 5.")
        )
    return found


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(3, 5.0, 4.0)
    for number, (name, part) in enumerate(zip(NAMES, STORED, strict=True)):
        style = {"marker": "o" if "+ MI" in name or name == "VICReg" else "s", "color": f"C{number // 2}"}
        ours, dimension = values_of(rows, part.name, "top1"), values_of(rows, part.name, "dimension_share")
        if ours:
            axes[0].plot(COMBINATIONS[name].published, np.mean(ours), ls="", label=name, **style)
            axes[1].plot(np.mean(dimension), np.mean(ours), ls="", **style)
        spectrum = first_drawn(rows, part.name, "spectrum")
        if spectrum:
            numbers, values = np.transpose(spectrum)
            axes[2].plot(
                numbers, np.maximum(values, 1e-12), color=style["color"], ls="-" if style["marker"] == "o" else "--"
            )
    axes[0].set(xlabel="published linear probe", ylabel="ours (small encoder, 12 epochs)")
    axes[0].legend(frameon=False, fontsize=6)
    axes[1].set(xscale="log", xlabel="dimensions with more than 1 % of the largest variance", ylabel="linear probe")
    axes[2].set(xscale="log", yscale="log", xlabel="dimension", ylabel="variance (solid: with mutual information)")
    return [figure]


def _found(rows: Rows) -> str:
    pairs = [
        (COMBINATIONS[name].published, np.mean(found))
        for name, part in zip(NAMES, STORED, strict=True)
        if (found := values_of(rows, part.name, "top1"))
    ]
    if len(pairs) < 5:
        return ""
    order = spearmanr(*np.transpose(pairs)).statistic
    ranked = sorted(NAMES, key=lambda n: -float(np.mean(values_of(rows, f"CIFAR-10: {n}", "top1") or [0])))
    first, last = ", ".join(ranked[:3]), ", ".join(ranked[-2:])
    return (
        f"{DIFFERENT}The order of our accuracies over {len(pairs)} combinations has a rank correlation of {order:+.2f} "
        f"with the published one. Ours, best first: {first}; last: {last}."
    )


ITEM = Item(
    name="table2",
    figure="Table 2, Table A1, Fig. 3",
    title="Thirteen combinations of space, entropy and mutual information",
    shown="All combinations learn features of about the same quality; space and entropy matter more than mutual "
    "information. The dimension of the latents differs by more than a factor of ten.",
    parts=(*STORED, RANDOM, PCA, PIXELS, *DIGITS.values()),
    targets=tuple(_targets()),
    draw=_draw,
    found=_found,
)
