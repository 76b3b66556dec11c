"""Mutual information on images: stored results and a training on digits, beside the claim of no difference."""

from __future__ import annotations

import numpy as np
from images.combinations import COMBINATIONS, PARTNERS
from images.jobs import open_results
from images.tables import verdict
from matplotlib.figure import Figure
from parallel import Logger
from results_store import Results, Row
from suite import RESULTS

from paper.drawing import panels
from paper.item import Item, Part, Rows, Target
from paper.items.table2 import DIGITS
from paper.stored import stored_rows, stored_settings

__all__ = ["ITEM", "PAIRS", "paired_differences"]

PAIRS = {without: with_it for without, with_it in PARTNERS.items() if {without, with_it} <= set(DIGITS)}
"""Combination without, and its partner with, mutual information, of those that are trained on digits."""
LONG_PAIRS = ("sphere log-determinant", "sphere kNN", "sphere KDE")
"""Combinations that were also trained for longer, with and without mutual information."""


def _published() -> float:
    """Return the mean difference over the six pairs of Table A1, CIFAR-10."""
    pairs = [(COMBINATIONS[without].published, COMBINATIONS[with_it].published) for without, with_it in PAIRS.items()]
    return float(np.mean([second - first for first, second in pairs if first is not None and second is not None]))


def paired_differences(folder: str, seed: int) -> Row:
    """Return the mean of the differences with minus without mutual information over all stored pairs of a seed."""
    found = [value for without in PARTNERS for value in _differences(folder, without, seed).values()]
    return {
        "difference": float(np.mean(found)),
        "better": float(np.mean(np.array(found) > 0)),
        "pairs": float(len(found)),
    }


def _differences(folder: str, without: str, *seeds: int) -> dict[int, float]:
    """Return the stored differences of the linear probe in one pair of combinations, by the seeds that have both."""
    found = {}
    for seed in seeds:
        pair = [
            stored_rows(folder, part="combinations", combination=name, seed=seed)
            for name in (without, PARTNERS[without])
        ]
        if all(pair):
            found[seed] = pair[1][0]["linear_probe"] - pair[0][0]["linear_probe"]
    return found


def _stored(folder: str, command: str, seeds: int) -> Part:
    def run(preset: str, seed: int, logger: Logger | None) -> Row:
        return paired_differences(folder, seed)

    source = f"Rows stored in benchmarks/results/{folder}, made by: {command}"
    return Part(f"mutual information: {folder}", run, seeds=seeds, source=source)


CIFAR = _stored("images/cifar-small", "kalmanssl bench images --preset cifar-small --data cifar10_jpeg.zip", 2)
LONG = _stored(
    "images/cifar-long",
    "kalmanssl bench images --preset cifar-long --data cifar10_jpeg.zip --seeds 2 --combinations 'sphere log-det' "
    "--combinations 'sphere knn' (and 'sphere kde' with --seeds 1)",
    2,
)
STORED_DIGITS = _stored("images/digits", "kalmanssl bench images --preset digits", 3)


def _targets() -> list[Target]:
    text = "linear probe, with minus without, mean over pairs"
    return [
        Target(
            f"small CIFAR-10, 12 epochs: {text}",
            CIFAR.name,
            "difference",
            round(_published(), 4),
            "table A1, mean over pairs",
            "equal",
            0.005,
            why="A small encoder and a short training; the paper trains a ResNet-18 for 1000 epochs. After three times "
            "as many epochs the difference is about the same in two pairs and smaller in another (see above).",
        ),
        Target(
            "small CIFAR-10: share of pairs in which it is better",
            CIFAR.name,
            "better",
            why="Seven pairs, also those in nats.",
        ),
        Target(
            f"small CIFAR-10, 36 epochs: {text}",
            LONG.name,
            "difference",
            why=f"Only the pairs {', '.join(LONG_PAIRS)}; the last one with one seed.",
        ),
        Target(
            f"digits, 60 epochs: {text}",
            STORED_DIGITS.name,
            "difference",
            round(_published(), 4),
            "table A1, mean over pairs",
            "equal",
            0.005,
            why="Met within the spread over seeds; over the seven pairs the difference is systematic, see above.",
        ),
    ]


def _gap(rows: Rows) -> dict[int, list[float]]:
    """Return the differences of the linear probe on digits over all pairs and seeds, by epoch."""
    found: dict[int, list[float]] = {}
    for without, with_it in PAIRS.items():
        by_seed = [{row["seed"]: row for row in rows.get(DIGITS[name].name, ())} for name in (without, with_it)]
        for seed in by_seed[0].keys() & by_seed[1].keys():
            first, second = (dict(map(tuple, one[seed]["drawn"]["probe"])) for one in by_seed)
            for epoch in first.keys() & second.keys():
                found.setdefault(epoch, []).append(second[epoch] - first[epoch])
    return dict(sorted(found.items()))


def _draw(rows: Rows) -> list[Figure]:
    figure, axes = panels(2, 5.2, 3.4)
    gap = _gap(rows)
    if gap:
        means = [100 * np.mean(values) for values in gap.values()]
        errors = [100 * np.std(v, ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in gap.values()]
        axes[0].errorbar([*gap], means, errors, marker="o")
    axes[0].axhline(0, color="gray", linewidth=0.8)
    axes[0].set(xlabel="epoch", ylabel="with - without (points), digits")
    for number, names in enumerate(PAIRS.items()):
        for style, name in zip(("--", "-"), names, strict=True):
            curves = [row["drawn"]["probe"] for row in rows.get(DIGITS[name].name, ())]
            if curves:
                mean = np.mean(np.array(curves), 0)
                axes[1].plot(*mean.T, style, color=f"C{number}", label=name, linewidth=1)
    axes[1].set(xlabel="epoch", ylabel="linear probe, digits (solid: with)")
    axes[1].legend(frameon=False, fontsize=6)
    return [figure]


def _longer() -> str:
    """Say how the differences on CIFAR-10 change with three times as many epochs."""
    texts = []
    for without in LONG_PAIRS:
        later = _differences("images/cifar-long", without, 0, 1)
        found = {12: _differences("images/cifar-small", without, *later), 36: later}
        means = " and ".join(
            f"{100 * np.mean([*values.values()]):+.2f} after {epochs}" for epochs, values in found.items() if values
        )
        texts.append(f"{without} {means} epochs ({len(later)} seed{'s' if len(later) != 1 else ''})")
    return f"cifar-long: points with minus without in the same pairs and seeds: {'; '.join(texts)}."


def _found(rows: Rows) -> str:
    texts = [
        f"{folder.split('/')[1]}: {verdict(_results(folder))}" for folder in ("images/cifar-small", "images/digits")
    ]
    texts.insert(1, _longer())
    gap = _gap(rows)
    if gap:
        means = ", ".join(
            f"epoch {epoch}: {100 * np.mean(v):+.2f} ± {100 * np.std(v) / np.sqrt(len(v)):.2f}"
            for epoch, v in gap.items()
        )
        texts.append(
            f"On digits over the training, points with minus without, mean and standard error over pairs and seeds: "
            f"{means}."
        )
    return " ".join(texts)


def _results(folder: str) -> Results:
    """Open stored results with the settings that they have."""
    return open_results(RESULTS / folder, stored_settings(folder), {})


ITEM = Item(
    name="mi",
    figure="Section 3 and Table 2",
    title="Does mutual information matter on images?",
    shown="The objectives with and without mutual information learn features of the same quality: the mean difference "
    f"over the pairs of Table A1 is {100 * _published():+.2f} points.",
    parts=(CIFAR, LONG, STORED_DIGITS, *(DIGITS[name] for pair in PAIRS.items() for name in pair)),
    targets=tuple(_targets()),
    draw=_draw,
    found=_found,
)
