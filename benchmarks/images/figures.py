"""A page of tables and pictures: accuracy against dimension, spectra, gradients, maps, categories."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import pages
from kept import Results
from matplotlib.figure import Figure

from images.baselines import RANDOM
from images.combinations import COMBINATIONS
from images.tables import (
    COLUMNS,
    INTRODUCTION,
    category_lines,
    difference_lines,
    scores,
    table,
    timing_lines,
    verdict,
)
from kalmanssl.plotting import plot_confusion, plot_tsne

__all__ = ["write_page"]

COLORS = {"euclidean": "#1b6ca8", "sphere": "#c0392b", "simplex": "#2e8b57"}
MARKERS = {"KDE": "o", "kNN": "s", "log-determinant": "^", "VICReg": "D"}


def write_page(results: Results, path: Path) -> None:
    """Write the tables and the figures as one page that needs no other file."""
    adapted = results.settings.get("plan", {}).get("adapted", {})
    changed = [f"{name}: {', '.join(f'{k} {v:g}' for k, v in some.items())}" for name, some in adapted.items()]
    about = (
        f"Preset {results.settings['preset']}. Constants other than the published ones: {'; '.join(changed) or '-'}."
    )
    sections = [
        f"<h1>What is learned from images without labels?</h1><p>{INTRODUCTION}</p><p>{html.escape(about)}</p>",
        pages.table([COLUMNS, *table(results)]),
        f"<h2>With and without mutual information</h2><p>{html.escape(verdict(results))}</p>",
        pages.table(difference_lines(results)),
        _shapes(results),
        _maps(results),
        _categories(results),
        "<h2>What a step costs</h2><p>Batch 256, dimension 256, images of 32 pixels, one thread; the encoders on both "
        "views (ResNet-18 measured on 8 pairs and multiplied). Plain: the textbook's form in a few lines. Lightly and "
        "solo-learn: their own losses. These are measured by turns with ours, times ours the median ratio. BYOL and "
        "SimSiam: the loss alone, without a predictor.</p>",
        pages.table(timing_lines(results)),
    ]
    pages.write(path, "Images", *sections)


def _looks(name: str) -> dict[str, Any]:
    one = COMBINATIONS[name]
    marker = next((marker for part, marker in MARKERS.items() if part in name), "*")
    filled = one.make().mutual_information
    color = COLORS[one.space]
    return {"color": color, "marker": marker, "markerfacecolor": color if filled else "none"}


def _shapes(results: Results) -> str:
    """Accuracy against dimension (Fig. 3), spectra of the latents, cosines of gradients (Fig. A2B)."""
    first = [row for name in COMBINATIONS for row in results.good("combinations", name)[:1]]
    if not first:
        return ""
    figure = Figure(figsize=(15, 5), dpi=110, layout="constrained")
    accuracy, spectra, cosines = figure.subplots(1, 3)
    for row in first:
        name = row["combination"]
        looks = _looks(name)
        rows = results.good("combinations", name)
        dimension = np.mean([one["above_share"] for one in rows])
        accuracy.plot(dimension, np.mean(list(scores(results, name).values())), ls="", label=name, **looks)
        line = {"color": looks["color"], "lw": 1.2, "ls": "-" if looks["markerfacecolor"] != "none" else "--"}
        number, value = np.transpose(row["spectrum"])
        spectra.plot(number, np.maximum(value, 1e-12), **line)
        spectra.plot(number[0], value[0], **looks)
        if row["gradient_cosine"]:
            cosines.plot(*np.transpose(row["gradient_cosine"]), **line | looks, markersize=4)
    accuracy.set(
        xscale="log",
        xlabel="dimensions with more than 1 % of the largest variance",
        ylabel="accuracy of the linear probe",
    )
    spectra.set(xscale="log", yscale="log", xlabel="dimension", ylabel="variance of the latents")
    cosines.set(xlabel="epoch", ylabel="cosine of the two entropies' gradients", ylim=(-1.05, 1.05))
    cosines.axhline(0, color="gray", lw=0.8)
    for place in (accuracy, spectra, cosines):
        place.spines[["top", "right"]].set_visible(False)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return (
        "<h2>How many dimensions are filled, and do the entropies agree?</h2><p>Filled signs and full lines: with "
        "mutual information; colors: spaces. The cosine is between the gradients, for backbone and projector, of the "
        "entropy in use and that of its partner with or without mutual information.</p>" + pages.picture(figure)
    )


def _maps(results: Results) -> str:
    """t-SNE of features of the best combination, by the held-out part of training, and of random weights."""
    folder = results.path.with_name("features")
    found = [
        r for r in results.good("combinations") if r["seed"] == 0 and (folder / f"{r['combination']}.npz").is_file()
    ]
    if not found or not (folder / f"{RANDOM}.npz").is_file():
        return ""
    best = max(found, key=lambda row: row["validation"])["combination"]
    figure = Figure(figsize=(13, 6), dpi=110, layout="constrained")
    for place, name in zip(figure.subplots(1, 2), (best, RANDOM), strict=True):
        with np.load(folder / f"{name}.npz") as kept:
            plot_tsne(place, kept["features"], kept["labels"])
        place.set_title(name)
    return "<h2>Features of test images, t-SNE</h2>" + pages.picture(figure)


def _categories(results: Results) -> str:
    rows = [row for row in results.good("categories") if row["seed"] == 0]
    if not rows:
        return ""
    figure = Figure(figsize=(5.2 * len(rows), 6.4), dpi=110, layout="constrained")
    places = figure.subplots(2, len(rows), squeeze=False, height_ratios=(3, 1))
    for (above, below), row in zip(places.T, rows, strict=True):
        plot_confusion(above, row["confusion"], row["classes"])
        above.set_title(f"{row['combination']}: {row['accuracy']:.3f}")
        pictures = np.pad(np.array(row["examples"]["images"]), ((0, 0), (1, 1), (1, 1)))
        half = len(pictures) // 2
        below.imshow(np.block([[*pictures[:half]], [*pictures[half:]]]), cmap="gray_r")
        certain, not_certain = (row["examples"]["bits"][i] for i in (0, half))
        below.set(xticks=[], yticks=[])
        below.set_xlabel(f"most certain ({certain:.2g} bits and up), most uncertain ({not_certain:.2g} and down)")
    return (
        "<h2>Categories from pairs of one class</h2><p>Every pair shows one class; categories are matched to the "
        "classes afterward, the largest counts first. A misspecified match of 0.8 is given beside 0.992.</p>"
        + pages.table(category_lines(results))
        + pages.picture(figure)
    )
